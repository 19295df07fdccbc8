import Foundation
import LPACore
import Observation

/// Opens a bundle's model: Core ML in the app, a stand-in in tests.
public protocol ModelOpening: Sendable {
  func open(
    _ bundle: LPABundle, units: ComputeUnits, step: @escaping @Sendable (ModelState.Event) -> Void
  ) async throws -> any ModelRunner
}

/// The model that all screens share: which bundle, how far it is, on which units.
@MainActor @Observable public final class ModelStore {
  public private(set) var progress: ModelProgress
  public private(set) var bundle: LPABundle?
  public private(set) var runner: (any ModelRunner)?
  public private(set) var units: ComputeUnits
  /// What the user must know and did not ask for: units that were given up, and why.
  public private(set) var notice: String?
  public let isSimulator: Bool

  private let library: BundleLibrary
  private let opener: any ModelOpening
  private let now: @Sendable () -> Double
  private var work: Task<Void, Never>?

  /// The simulator has no Neural Engine and gives empty text on a GPU that it emulates: there the
  /// model stays on the CPU.
  public init(
    library: BundleLibrary, opener: any ModelOpening, isSimulator: Bool,
    now: @escaping @Sendable () -> Double
  ) {
    self.library = library
    self.opener = opener
    self.isSimulator = isSimulator
    self.now = now
    units = isSimulator ? .cpu : .neuralEngine
    progress = ModelProgress(now: now())
    notice = isSimulator ? "Simulator: the model runs on the CPU only" : nil
  }

  public var state: ModelState { progress.state }
  public var availableUnits: [ComputeUnits] { isSimulator ? [.cpu] : ComputeUnits.allCases }

  /// Seconds since the present state began.
  public func elapsed(at moment: Double) -> Double { max(0, moment - progress.since) }
  public var moment: Double { now() }

  /// The bundle that was imported before, else the one in the app's resources.
  public func start(resources: URL?) {
    begin { try $0.present(resources: resources) }
  }

  /// Copies a folder into the app, all of it or nothing, and opens it.
  public func importBundle(_ folder: URL) {
    begin { library in try withAccess(to: folder) { try library.importing(folder) } }
  }

  public func remove() {
    work?.cancel()
    library.remove()
    bundle = nil
    runner = nil
    apply(.removed)
  }

  public func cancel() {
    guard state.isBusy else { return }
    work?.cancel()
    apply(.broke("Cancelled"))
  }

  public func choose(_ chosen: ComputeUnits) {
    guard chosen != units, availableUnits.contains(chosen) else { return }
    units = chosen
    notice = nil
    guard let bundle, apply(.unitsChanged) else { return }
    runner = nil
    work?.cancel()
    work = Task { await open(bundle, compiles: false) }
  }

  /// iOS refuses work on the GPU to an app in the background: better said than crashed.
  public func enteredBackground() {
    guard state.isBusy, units.mayUseGPU else { return }
    work?.cancel()
    apply(.broke("iOS refuses work on the GPU in the background; choose \(ComputeUnits.neuralEngine.title)"))
  }

  /// Waits for what is going on, for tests and for headless runs.
  public func finished() async { await work?.value }

  /// A model for a comparison of units, beside the one in use.
  public func open(on units: ComputeUnits) async throws -> any ModelRunner {
    guard let bundle else { throw LpaError("no bundle is open") }
    return try await opener.open(bundle, units: units) { _ in }
  }

  private func begin(_ find: @escaping @Sendable (BundleLibrary) throws -> LPABundle) {
    work?.cancel()
    runner = nil
    apply(.bundleChosen)
    let library = library
    work = Task {
      do {
        // Hashing hundreds of megabytes must not hold the screen up.
        let found = try await Task.detached { try find(library) }.value
        guard !Task.isCancelled else { return }
        bundle = found
        apply(.filesSound)
        await open(found, compiles: true)
      } catch {
        guard !Task.isCancelled else { return }
        apply(.broke(error.oneLine))
      }
    }
  }

  private func open(_ bundle: LPABundle, compiles: Bool) async {
    do {
      try await load(bundle, compiles: compiles)
    } catch {
      guard !Task.isCancelled else { return }
      apply(.broke(error.oneLine))
      await fallBack(bundle, from: units, because: error.oneLine)
    }
  }

  /// Opens and warms the model. A golden clip is the warm-up: a model that loads and says nothing,
  /// or something else, is not ready.
  private func load(_ bundle: LPABundle, compiles: Bool) async throws {
    let opened = try await opener.open(bundle, units: units) { event in
      Task { @MainActor in
        if compiles || event != .compiled { self.apply(event) }
      }
    }
    try Task.checkCancellation()
    // Steps come through the main actor one after another; what is missing is caught up here.
    if state == .compiling { apply(.compiled) }
    if state == .specialising { apply(.loaded) }
    guard let clip = try bundle.goldenClips().first else { throw LpaError("no golden clip") }
    let logits = try await opened.logits(bundle.waveform(of: clip))
    try Task.checkCancellation()
    guard nonFinite(logits.values) == 0 else {
      throw LpaError("the model gives NaN or infinite values on \(units.title)")
    }
    let heard = try bundle.vocabulary().text(logits)
    guard !heard.isEmpty || clip.transcript.isEmpty else {
      throw LpaError("the model hears nothing on \(units.title), expected '\(clip.transcript)'")
    }
    runner = opened
    apply(.warmed)
  }

  private func fallBack(_ bundle: LPABundle, from failed: ComputeUnits, because why: String) async {
    guard failed != .cpu, state == .failed(why), apply(.unitsChanged) else { return }
    units = .cpu
    notice = "\(failed.title) failed (\(why)); the model runs on the CPU instead"
    do {
      try await load(bundle, compiles: false)
    } catch {
      guard !Task.isCancelled else { return }
      apply(.broke(error.oneLine))
    }
  }

  @discardableResult private func apply(_ event: ModelState.Event) -> Bool {
    progress.apply(event, now: now())
  }
}
