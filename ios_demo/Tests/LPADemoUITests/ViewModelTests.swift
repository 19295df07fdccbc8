import Foundation
import Testing

@testable import LPACore
@testable import LPADemoUI

private let vectors = URL(fileURLWithPath: #filePath)
  .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Vectors")
private let storedBundle = vectors.appendingPathComponent("bundle")

/// Gives the stored bundle's golden logits, as many as a waveform has frames, or breaks where a test wants it.
private struct StandIn: ModelRunner {
  let runtime: String
  let maxSamples: Int? = nil
  let reachableTaps: Set<String> = ["logits"]
  let bundle: LPABundle
  let behaviour: Behaviour
  var windows: [WindowSection] = []

  enum Behaviour: Sendable {
    case right
    case silent
    case notANumber
  }

  func run(_ waveform: [Float], taps: Set<String>) async throws -> Inference {
    var logits = try bundle.reference(of: bundle.goldenClips()[0], tap: "logits")
    for index in logits.values.indices where behaviour != .right {
      logits.values[index] = behaviour == .silent ? (index % 29 == 0 ? 1 : 0) : .nan
    }
    let heard = bundle.manifest.frames.frames(waveform.count)
    return Inference(logits: logits.rows(0..<min(logits.rows, heard)))
  }
}

private struct StandInOpener: ModelOpening {
  var refused: Set<ComputeUnits> = []
  var behaviours: [ComputeUnits: StandIn.Behaviour] = [:]
  var delay: Duration = .zero
  var windows: [WindowSection] = []

  func open(
    _ bundle: LPABundle, units: ComputeUnits, step: @escaping @Sendable (ModelState.Event) -> Void
  ) async throws -> any ModelRunner {
    try await Task.sleep(for: delay)
    step(.compiled)
    if refused.contains(units) { throw LpaError("refused on \(units.title)") }
    step(.loaded)
    return StandIn(
      runtime: units.title, bundle: bundle, behaviour: behaviours[units] ?? .right,
      windows: windows)
  }
}

private struct Stage {
  let root = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)

  @MainActor func store(
    _ opener: StandInOpener = StandInOpener(), isSimulator: Bool = false
  ) -> ModelStore {
    ModelStore(
      library: BundleLibrary(root: root, target: "onnx"), opener: opener, isSimulator: isSimulator,
      now: { ProcessInfo.processInfo.systemUptime })
  }

  @MainActor func ready(_ opener: StandInOpener = StandInOpener()) async -> ModelStore {
    let store = store(opener)
    store.start(resources: storedBundle)
    await store.finished()
    return store
  }
}

@MainActor @Suite struct ModelStoreTests {
  private let stage = Stage()

  @Test func theBundleInTheResourcesIsOpenedAndWarmed() async {
    let store = await stage.ready()
    #expect(store.state == .ready && store.notice == nil && store.runner != nil)
    #expect(store.bundle?.manifest.model == "an4-tiny")
    #expect(store.progress.steps.map(\.title).last == "Warming up")
  }

  @Test func withoutABundleItSaysWhatToDo() async {
    let store = stage.store()
    store.start(resources: nil)
    await store.finished()
    guard case .failed(let why) = store.state else { return #expect(Bool(false)) }
    #expect(why.contains("lpa-bundle"))
  }

  @Test func aDamagedFolderIsRefusedInOneLineAndTheOldBundleStays() async throws {
    let store = stage.store()
    store.importBundle(storedBundle)
    await store.finished()
    #expect(store.state == .ready)
    store.importBundle(vectors.appendingPathComponent("wav"))
    await store.finished()
    guard case .failed(let why) = store.state else { return #expect(Bool(false)) }
    #expect(why.contains("not a bundle") && !why.contains("\n"))
    let again = stage.store()
    again.start(resources: nil)
    await again.finished()
    #expect(again.state == .ready)
  }

  @Test(arguments: [
    StandInOpener(refused: [.neuralEngine]),
    StandInOpener(behaviours: [.neuralEngine: .silent]),
    StandInOpener(behaviours: [.neuralEngine: .notANumber]),
  ])
  private func unitsThatFailAreGivenUpWithANotice(opener: StandInOpener) async {
    let store = await stage.ready(opener)
    #expect(store.state == .ready && store.units == .cpu)
    #expect(store.notice?.contains("runs on the CPU instead") == true)
    #expect(store.notice?.hasPrefix(ComputeUnits.neuralEngine.title) == true)
  }

  @Test func whereTheCPUFailsTooItIsSaid() async {
    let store = await stage.ready(StandInOpener(refused: [.neuralEngine, .cpu]))
    #expect(store.state == .failed("refused on CPU") && store.runner == nil)
  }

  @Test func theSimulatorStaysOnTheCPUAndSaysSo() async {
    let store = stage.store(isSimulator: true)
    store.start(resources: storedBundle)
    await store.finished()
    store.choose(.neuralEngine)
    #expect(store.units == .cpu && store.availableUnits == [.cpu])
    #expect(store.notice?.contains("Simulator") == true)
  }

  @Test func otherUnitsOpenTheModelAnew() async {
    let store = await stage.ready()
    store.choose(.gpu)
    #expect(store.state == .specialising && store.runner == nil)
    await store.finished()
    #expect(store.state == .ready && store.runner?.runtime == ComputeUnits.gpu.title)
  }

  @Test func aLongLoadCanBeCancelled() async {
    let store = stage.store(StandInOpener(delay: .seconds(60)))
    store.start(resources: storedBundle)
    while store.state != .compiling { await Task.yield() }
    store.cancel()
    await store.finished()
    #expect(store.state == .failed("Cancelled"))
  }

  @Test func workOnTheGPUIsStoppedInTheBackground() async {
    let store = await stage.ready(StandInOpener(delay: .milliseconds(200)))
    store.choose(.gpu)
    store.enteredBackground()
    await store.finished()
    guard case .failed(let why) = store.state else { return #expect(Bool(false)) }
    #expect(why.contains("background"))
    let calm = await stage.ready()
    calm.enteredBackground()
    #expect(calm.state == .ready)
  }

  @Test func aRemovedBundleIsGone() async {
    let store = stage.store()
    store.importBundle(storedBundle)
    await store.finished()
    store.remove()
    #expect(store.state == .missing && store.bundle == nil && store.runner == nil)
  }
}

private struct StandInMicrophone: AudioInput {
  let events: [AudioEvent]
  var refusal: String?

  func start() async throws -> AsyncStream<AudioEvent> {
    if let refusal { throw LpaError(refusal) }
    return AsyncStream { continuation in
      for event in events { continuation.yield(event) }
      continuation.finish()
    }
  }

  func stop() {}
}

@MainActor private final class StandInPlayer: AudioPlaying {
  var played: [(start: Double, end: Double)] = []
  func play(_ samples: [Float], rate: Int, from start: Double, to end: Double) throws {
    played.append((start, end))
  }
  func stop() {}
}

@MainActor @Suite struct TranscribeModelTests {
  private let stage = Stage()
  private let clip = storedBundle.appendingPathComponent("golden/demo0008.flac")

  private func model(
    _ store: ModelStore, _ input: StandInMicrophone = StandInMicrophone(events: []),
    player: StandInPlayer = StandInPlayer()
  ) -> TranscribeModel {
    TranscribeModel(store: store, input: input, reader: AudioFiles(), player: player)
  }

  @Test func aFileIsTranscribed() async {
    let model = model(await stage.ready())
    model.importFile(clip)
    await model.finished()
    #expect(model.phase == .done && model.transcript?.text == "NINE NINE SIX ONE")
    #expect(model.transcript?.words.count == 4 && model.title == "demo0008.flac")
  }

  @Test func aWordIsPlayedWithALittleAroundIt() async throws {
    let player = StandInPlayer()
    let model = model(await stage.ready(), player: player)
    model.importFile(clip)
    await model.finished()
    let word = try #require(model.transcript?.words.last)
    model.play(word)
    #expect(player.played.count == 1)
    #expect(player.played[0].start < word.start && player.played[0].end > word.end)
  }

  @Test func whatWasSaidIsTranscribedThroughInterruptionsAndChangesOfRoute() async throws {
    let samples = try loadWaveform(clip, at: 16_000)
    let half = samples.count / 2
    let input = StandInMicrophone(events: [
      .samples(Array(samples[..<half]), rate: 16_000), .interrupted, .resumed,
      .routeChanged("Headphones"), .samples(Array(samples[half...]), rate: 16_000),
    ])
    let model = model(await stage.ready(), input)
    model.record()
    await model.finished()
    #expect(model.phase == .recording && model.notice == "Now listening through Headphones")
    #expect(abs(model.recordedSeconds - Double(samples.count) / 16_000) < 1e-9 && model.level > 0)
    model.stop()
    await model.finished()
    #expect(model.phase == .done && model.transcript?.text == "NINE NINE SIX ONE")
  }

  @Test func aMicrophoneWithoutFormatOrPermissionIsSaid() async {
    let model = model(
      await stage.ready(), StandInMicrophone(events: [], refusal: "no usable format"))
    model.record()
    await model.finished()
    #expect(model.phase == .failed("no usable format"))
  }

  @Test func anEngineThatDiesIsSaid() async {
    let model = model(await stage.ready(), StandInMicrophone(events: [.failed("gone")]))
    model.record()
    await model.finished()
    #expect(model.phase == .failed("gone"))
  }

  @Test func aRecordingOfNothingIsSaid() async {
    let model = model(await stage.ready(), StandInMicrophone(events: []))
    model.record()
    await model.finished()
    model.stop()
    await model.finished()
    guard case .failed(let why) = model.phase else { return #expect(Bool(false)) }
    #expect(why.contains("0 samples"))
  }

  @Test func withoutAModelItSaysWhereToLook() {
    let model = model(stage.store())
    model.importFile(clip)
    #expect(model.phase == .failed("The model is not ready: see the screen Model"))
  }

  @Test func aFileThatIsNoSoundIsSaid() async {
    let model = model(await stage.ready())
    model.importFile(storedBundle.appendingPathComponent("tokens.json"))
    await model.finished()
    guard case .failed(let why) = model.phase else { return #expect(Bool(false)) }
    #expect(why.hasPrefix("tokens.json: expected an audio file"))
  }
}

@MainActor @Suite struct MeasurementTests {
  private let stage = Stage()

  @Test func theReplayComparesAllUnitsSideBySide() async throws {
    let store = await stage.ready(
      StandInOpener(refused: [.gpu], behaviours: [.neuralEngine: .notANumber]))
    let model = ReplayModel(store: store)
    model.run()
    await model.finished()
    #expect(!model.isRunning && model.units == [.cpu, .gpu, .neuralEngine])
    guard case .found(let right)? = model.outcomes[.cpu],
      case .found(let broken)? = model.outcomes[.neuralEngine]
    else { return #expect(Bool(false)) }
    #expect(right.passed && !broken.passed)
    #expect(broken.firstDiverging?.tap == "logits")
    #expect(model.outcomes[.gpu] == .failed("refused on CPU and GPU"))
    let logits = try #require(model.taps.last)
    #expect(model.row(logits, on: .cpu)?.psnrDB == .infinity)
    #expect(model.row(logits, on: .gpu) == nil)
    #expect(model.gate == 90)
    #expect(model.cell(logits, on: .cpu) == "inf pass")
    #expect(model.cell(logits, on: .neuralEngine) == "nan FAIL")
    #expect(model.cell(logits, on: .gpu) == "-")
  }

  @Test func aBenchmarkIsTakenOnTheUnitsInUse() async {
    let model = BenchmarkModel(store: await stage.ready())
    model.passes = 3
    model.run()
    await model.finished()
    #expect(model.result?.passes.count == 3 && model.problem == nil)
    #expect(model.result?.runtime == ComputeUnits.neuralEngine.title)
  }

  @Test func aBundleWithoutWindowsSaysHowToGetThem() async {
    let model = WindowsModel(store: await stage.ready()) { [] }
    model.run()
    await model.finished()
    #expect(model.layers.isEmpty && model.problem?.contains("--taps outputs") == true)
    #expect(model.picture.isEmpty)
  }

  @Test func windowsAreThoseOfTheLastRecordingOrOfAGoldenClip() async throws {
    var opener = StandInOpener()
    opener.windows = [try alternating()]
    let heard = Heard()
    let model = WindowsModel(store: await stage.ready(opener)) { heard.samples }
    #expect(model.choices == ["demo0008"])
    model.run()
    await model.finished()
    #expect(model.choice == "demo0008" && model.problem == nil)
    let golden = model.picture.count
    heard.samples = [Float](repeating: 0.1, count: 16_000)
    #expect(model.choices == [WindowsModel.lastRecording, "demo0008"])
    model.choice = WindowsModel.lastRecording
    model.run()
    await model.finished()
    #expect(model.problem == nil && model.picture.count == 46 && golden > 46)
    #expect(model.picture[0][..<3] == [1, 1, 0] && model.picture[2][..<3] == [0, 0, 1])
  }

  private final class Heard {
    var samples: [Float] = []
  }

  /// Windows of two frames, one beside the other.
  private func alternating() throws -> WindowSection {
    let text = """
      {"layer": 0, "heads": 1, "aperiodic": 0, "edges": null, "shares": [],
       "teeth": [{"head": 0, "period": 2, "phase": 0, "width": 2}]}
      """
    return try WindowSection(
      Fields(JSONValue(parsing: Data(text.utf8)), place: "section", known: WindowSection.keys))
  }
}
