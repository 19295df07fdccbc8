import Foundation
import LPACore
import Observation

/// The golden clips of the bundle on this very device, on all units side by side.
@MainActor @Observable public final class ReplayModel {
  public enum Outcome: Sendable, Equatable {
    case running
    case found(ReplayResult)
    /// It did not load or broke there; other units may work.
    case failed(String)
  }

  public private(set) var outcomes: [ComputeUnits: Outcome] = [:]
  public private(set) var isRunning = false

  private let store: ModelStore
  private var work: Task<Void, Never>?

  public init(store: ModelStore) { self.store = store }

  public var units: [ComputeUnits] {
    store.isSimulator ? [.cpu] : [.cpu, .gpu, .neuralEngine]
  }

  /// The taps in the model's order, each with its figure on all units.
  public var taps: [Manifest.Tap] { store.bundle?.manifest.taps ?? [] }

  public func row(_ tap: Manifest.Tap, on units: ComputeUnits) -> TapResult? {
    guard case .found(let result)? = outcomes[units] else { return nil }
    return result.taps.first { $0.tap == tap.name }
  }

  /// What every tap is held to, in dB; nil: the bundle states no such gate.
  public var gate: Double? { store.bundle?.manifest.gates.psnrDB }

  /// The figure of a tap and its verdict, which colour alone would hide from some.
  public func cell(_ tap: Manifest.Tap, on units: ComputeUnits) -> String {
    guard let row = row(tap, on: units), let value = row.psnrDB else { return "-" }
    let figure = value.isFinite ? String(format: "%.1f", value) : "\(value)"
    return figure + (row.passed.map { $0 ? " pass" : " FAIL" } ?? "")
  }

  public func run() {
    guard let bundle = store.bundle, !isRunning else { return }
    isRunning = true
    outcomes = [:]
    work = Task {
      for units in units {
        outcomes[units] = .running
        do {
          outcomes[units] = .found(try await replay(bundle, on: store.open(on: units)))
        } catch {
          outcomes[units] = .failed(error.oneLine)
        }
        guard !Task.isCancelled else { break }
      }
      isRunning = false
    }
  }

  public func cancel() { work?.cancel() }
  public func finished() async { await work?.value }
}

/// How fast the model is on this device, on the longest golden clip.
@MainActor @Observable public final class BenchmarkModel {
  public private(set) var result: BenchmarkResult?
  public private(set) var problem: String?
  public private(set) var isRunning = false
  public var passes = 20

  private let store: ModelStore
  private var work: Task<Void, Never>?

  public init(store: ModelStore) { self.store = store }

  public func run() {
    guard let bundle = store.bundle, !isRunning else { return }
    (isRunning, result, problem) = (true, nil, nil)
    let (store, units, passes) = (store, store.units, passes)
    work = Task {
      do {
        let clips = try bundle.goldenClips().map { try bundle.waveform(of: $0) }
        let longest = clips.max { $0.count < $1.count } ?? []
        result = try await benchmark(
          longest, sampleRate: bundle.manifest.sampleRate, passes: passes
        ) { try await store.open(on: units) }
      } catch {
        problem = error.oneLine
      }
      isRunning = false
    }
  }

  public func finished() async { await work?.value }
}

/// Which frames the layers average on a recording: the last one that was transcribed, or a golden clip.
@MainActor @Observable public final class WindowsModel {
  public private(set) var layers: [LayerWindows] = []
  public private(set) var problem: String?
  public private(set) var isRunning = false
  /// What can be chosen; "" is what was chosen when nothing was.
  public var choices: [String] {
    let golden = (try? store.bundle?.goldenClips().map(\.id)) ?? []
    return (recording().isEmpty ? [] : [Self.lastRecording]) + golden
  }
  public var choice = ""
  public static let lastRecording = "Last recording"
  public var layer = 0
  /// Nil: all heads.
  public var head: Int?
  public var families = Set(LayerWindows.Family.allCases)

  private let store: ModelStore
  private let recording: @MainActor () -> [Float]
  private var work: Task<Void, Never>?

  /// `recording`: the last one at the bundle's rate, empty where there is none.
  public init(store: ModelStore, recording: @escaping @MainActor () -> [Float]) {
    self.store = store
    self.recording = recording
  }

  public var shown: LayerWindows? { layers.first { $0.layer == layer } ?? layers.first }

  /// How many windows average frame s for frame t: [t][s].
  public var picture: [[Int]] {
    guard let shown else { return [] }
    let heads = head.map { Set([$0]) } ?? Set(0..<shown.heads)
    return shown.counts(heads: heads, families: families)
  }

  public func run() {
    guard let bundle = store.bundle, let runner = store.runner, !isRunning else {
      problem = "The model is not ready: see the screen Model"
      return
    }
    (isRunning, problem) = (true, nil)
    let choices = choices
    if !choices.contains(choice) { choice = choices.first ?? "" }
    let (choice, recording) = (choice, recording())
    work = Task {
      do {
        let golden = try bundle.goldenClips().first { $0.id == choice }
        let waveform = try golden.map { try bundle.waveform(of: $0) } ?? recording
        layers = try await layerWindows(waveform, manifest: bundle.manifest, on: runner)
      } catch {
        (layers, problem) = ([], error.oneLine)
      }
      isRunning = false
    }
  }

  public func finished() async { await work?.value }
}
