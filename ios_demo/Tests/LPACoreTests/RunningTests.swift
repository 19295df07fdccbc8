import Foundation
import Testing

@testable import LPACore

/// Gives the golden values of the stored bundle back, changed where a test wants it.
struct GoldenRunner: ModelRunner {
  let runtime = "golden"
  var maxSamples: Int? = nil
  var reachableTaps: Set<String> = ["encoder.embed", "logits"]
  let bundle: LPABundle
  var change: @Sendable (String, Matrix) throws -> Matrix = { $1 }

  func run(_ waveform: [Float], taps: Set<String>) async throws -> Inference {
    let clip = try bundle.goldenClips()[0]
    let logits = try change("logits", bundle.reference(of: clip, tap: "logits"))
    var values: [String: Matrix] = [:]
    for tap in taps { values[tap] = try change(tap, bundle.reference(of: clip, tap: tap)) }
    return Inference(logits: logits, taps: values)
  }
}

@Suite struct Replays {
  private let bundle: LPABundle

  init() throws { bundle = try LPABundle(Vectors.file("bundle")) }

  private func result(
    taps: Set<String> = ["encoder.embed", "logits"],
    _ change: @escaping @Sendable (String, Matrix) throws -> Matrix = { $1 }
  ) async throws -> ReplayResult {
    var runner = GoldenRunner(bundle: bundle)
    runner.change = change
    runner.reachableTaps = taps
    return try await replay(bundle, on: runner)
  }

  @Test func equalValuesPassWithInfinitePSNR() async throws {
    let found = try await result()
    #expect(found.passed && found.failures.isEmpty && found.firstDiverging == nil)
    #expect(found.taps.map(\.tap) == ["encoder.embed", "logits"])
    #expect(found.taps.allSatisfy { $0.psnrDB == .infinity && $0.passed == true })
    #expect(found.argmaxAgreement == 1 && found.clips[0].transcript == "NINE NINE SIX ONE")
  }

  @Test func noiseFailsTheGateAndTheFirstTapIsNamed() async throws {
    let found = try await result { _, values in
      var noisy = values
      for index in noisy.values.indices { noisy.values[index] += index % 2 == 0 ? 0.05 : -0.05 }
      return noisy
    }
    #expect(!found.passed)
    #expect(found.firstDiverging?.tap == "encoder.embed")
    #expect(found.failures.contains { $0.hasPrefix("logits: PSNR") })
  }

  @Test func aNaNFails() async throws {
    let found = try await result { tap, values in
      guard tap == "logits" else { return values }
      var broken = values
      broken.values[7] = .nan
      return broken
    }
    #expect(!found.passed && found.logits?.psnrDB?.isNaN == true)
    #expect(found.firstDiverging?.tap == "logits")
  }

  @Test func anotherNumberOfFramesFails() async throws {
    let found = try await result { $0 == "logits" ? $1.rows(0..<$1.rows - 1) : $1 }
    #expect(!found.passed && found.misshapen == ["demo0008"])
  }

  @Test func changedWordsFailWhereTheGateLeavesNoRoom() async throws {
    let found = try await result { tap, values in
      guard tap == "logits" else { return values }
      var other = values
      for row in 0..<10 { other.values[row * values.columns + 5] = 100 }
      return other
    }
    #expect(found.changedTranscripts.count == 1)
    #expect(found.failures.contains { $0.contains("expected 'NINE NINE SIX ONE'") })
  }

  @Test func tapsOutOfReachAreNoPass() async throws {
    let found = try await result(taps: ["logits"])
    #expect(found.passed)
    #expect(found.taps[0].psnrDB == nil && found.taps[0].passed == nil)
  }
}

@Suite struct Reports {
  @Test func infinitePSNRAndVerdictsStandInThem() async throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    var report = DeviceReport(
      bundle, device: Device(name: "iPhone0,0", system: "iOS 18.1", isSimulator: false))
    report.replays = [try await replay(bundle, on: GoldenRunner(bundle: bundle))]
    let json = try JSONValue(parsing: Data(report.json().rendered.utf8))
    #expect(json["bundle"]?.string("manifest_sha256") == bundle.sha256)
    #expect(json["normaliser"]?.string("name") == "lpa-text")
    #expect(json["golden"]?.string("demo0008") == bundle.manifest.files["golden/demo0008.flac"]?.sha256)
    let replayed = try #require(json.list("replays").first)
    #expect(replayed["passed"] == .bool(true))
    #expect(replayed.list("taps").last?["psnr_db"] == .string("inf"))
  }

  @Test func aDeviceSaysWhatItIsButNotWhose() {
    let device = Device.current
    #expect(!device.name.isEmpty && !device.system.isEmpty)
    #expect(!device.name.contains(ProcessInfo.processInfo.hostName))
  }
}

@Suite struct LongTranscription {
  @Test func piecesGiveEachFrameOnceAndTimesGoOn() async throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    let vocabulary = try bundle.vocabulary()
    var waveform: [Float] = []
    for index in 0..<6 { waveform += try loadWaveform(clip(index), at: 16_000) }
    let runner = CountingRunner(arithmetic: bundle.manifest.frames)
    let found = try await transcribe(
      waveform, manifest: bundle.manifest, vocabulary: vocabulary, runner: runner, cut: 64_000)
    let whole = try await transcribe(
      waveform, manifest: bundle.manifest, vocabulary: vocabulary, runner: runner)
    #expect(found.seams.count >= 2 && whole.seams.isEmpty)
    // The runner speaks by the sample at a frame's beginning, so pieces must agree with the whole.
    #expect(found.words == whole.words && found.text == whole.text)
  }

  private func clip(_ index: Int) -> URL {
    Vectors.demo.appendingPathComponent(String(format: "demo%04d.flac", index))
  }
}

/// A token for each frame that depends on the frame's first sample alone.
private struct CountingRunner: ModelRunner {
  let runtime = "counting"
  let maxSamples: Int? = nil
  let reachableTaps: Set<String> = []
  let arithmetic: FrameArithmetic

  func run(_ waveform: [Float], taps: Set<String>) async throws -> Inference {
    let frames = arithmetic.frames(waveform.count)
    var values = [Float](repeating: 0, count: frames * 29)
    for frame in 0..<frames {
      let level = Int(abs(waveform[frame * arithmetic.hop]) * 32_768)
      values[frame * 29 + level % 29] = 1
    }
    return Inference(logits: try Matrix(rows: frames, columns: 29, values: values))
  }
}

@Suite struct Benchmarks {
  @Test func timesAreThoseOfThePassesBehindTheFirst() async throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    let runner = GoldenRunner(bundle: bundle)
    let found = try await benchmark([Float](repeating: 0.1, count: 32_000), sampleRate: 16_000, passes: 5)
    { runner }
    #expect(found.audioSeconds == 2 && found.passes.count == 5)
    #expect(found.p95 >= found.p50 && found.p50 > 0)
    #expect(abs(found.realTimeFactor - found.p50 / 2) < 1e-12)
    #expect((found.peakMemoryBytes ?? 0) > 1 << 20)
  }
}

@Suite struct ModelStates {
  private let way: [(ModelState.Event, ModelState)] = [
    (.bundleChosen, .checking), (.filesSound, .compiling), (.compiled, .specialising),
    (.loaded, .warming), (.warmed, .ready),
  ]

  @Test func theWayToReadyGoesStepByStep() {
    var progress = ModelProgress(now: 0)
    for (index, step) in way.enumerated() {
      let happened = progress.apply(step.0, now: Double(index) * 2)
      #expect(happened)
      #expect(progress.state == step.1)
      #expect(progress.state.isBusy == (step.1 != .ready))
    }
    #expect(progress.steps.map(\.seconds) == [2, 2, 2, 2])
    #expect(progress.steps.first?.title == "Checking the files")
  }

  @Test func noStepIsSkipped() {
    for (index, step) in way.enumerated().dropFirst() {
      for state in [ModelState.missing] + way.prefix(index - 1).map(\.1) {
        #expect(state.after(step.0) == nil, "\(state) \(step.0)")
      }
    }
  }

  @Test func itMayBreakAnywhereAndBeginAnew() {
    for (_, state) in way {
      #expect(state.after(.broke("why")) == .failed("why"))
      #expect(state.after(.bundleChosen) == .checking)
      #expect(state.after(.removed) == .missing)
    }
    #expect(ModelState.missing.after(.broke("why")) == nil)
  }

  @Test func otherUnitsSpecialiseAnewWithoutCompiling() {
    #expect(ModelState.ready.after(.unitsChanged) == .specialising)
    #expect(ModelState.failed("x").after(.unitsChanged) == .specialising)
    #expect(ModelState.compiling.after(.unitsChanged) == nil)
  }
}

@Suite struct Speech {
  @Test func manifestsAreReadAndMistakesNamedByLine() throws {
    let utterances = try loadUtterances(Vectors.demo.appendingPathComponent("manifest.jsonl"))
    #expect(utterances.count == 48 && utterances[0].id == "demo0000")
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let clip = Vectors.demo.appendingPathComponent("demo0000.flac").path
    for (text, problem) in [
      ("{\"audio_filepath\": \"x.wav\", \"text\": \"A\"}", "list.jsonl:1: no audio file"),
      ("\n{", "list.jsonl:2: expected a JSON object"),
      ("{\"text\": \"A\"}", "'audio_filepath'"),
      ("{\"audio_filepath\": \"\(clip)\", \"text\": \"A\", \"id\": \"a\"}\n"
        + "{\"audio_filepath\": \"\(clip)\", \"text\": \"A\", \"id\": \"a\"}", "twice"),
      ("", "no utterance"),
    ] {
      let place = folder.appendingPathComponent("list.jsonl")
      try Data(text.utf8).write(to: place)
      let found = message { _ = try loadUtterances(place) }
      #expect(found?.contains(problem) == true, "\(found ?? "taken")")
    }
  }
}
