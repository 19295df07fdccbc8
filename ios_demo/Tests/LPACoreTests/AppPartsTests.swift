import Foundation
import Testing

@testable import LPACore

private func temporaryFolder() throws -> URL {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  return folder
}

@Suite struct Libraries {
  @Test func aBundleIsCopiedWholeAndFoundAgain() throws {
    let root = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: root) }
    let library = BundleLibrary(root: root, target: "onnx")
    #expect(try library.imported() == nil)
    let imported = try library.importing(Vectors.file("bundle"))
    #expect(imported.damage().isEmpty && imported.folder.path.hasPrefix(root.path))
    #expect(try library.imported()?.sha256 == imported.sha256)
    library.remove()
    #expect(try library.imported() == nil)
  }

  @Test func anotherOneTakesItsPlaceAndWhatAKilledImportLeftGoes() throws {
    let root = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: root) }
    let library = BundleLibrary(root: root, target: "onnx")
    _ = try library.importing(Vectors.file("bundle"))
    try FileManager.default.createDirectory(
      at: root.appendingPathComponent(".unfinished-x"), withIntermediateDirectories: true)
    _ = try library.importing(Vectors.file("bundle"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: root.path) == ["Bundle"])
    #expect(try library.present(resources: nil).folder.lastPathComponent == "Bundle")
  }

  @Test func whatWasImportedComesBeforeTheResources() throws {
    let root = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: root) }
    let library = BundleLibrary(root: root, target: "onnx")
    let resources = Vectors.file("bundle")
    #expect(try library.present(resources: resources).folder == resources)
    let imported = try library.importing(resources)
    #expect(try library.present(resources: resources).folder == imported.folder)
    library.remove()
    #expect(message { _ = try library.present(resources: nil) }?.contains("lpa-bundle") == true)
  }

  @Test(arguments: ["damaged", "link", "target", "newer", "none"])
  func nothingIsHalfImportedAndWhatWasThereStays(how: String) throws {
    let root = try temporaryFolder()
    let folder = try Vectors.bundleCopy()
    defer {
      try? FileManager.default.removeItem(at: root)
      try? FileManager.default.removeItem(at: folder)
    }
    let library = BundleLibrary(root: root, target: how == "target" ? "coreml" : "onnx")
    if how != "target" { _ = try library.importing(Vectors.file("bundle")) }
    let tokens = folder.appendingPathComponent("tokens.json")
    let manifest = folder.appendingPathComponent("manifest.json")
    var problem = ""
    switch how {
    case "damaged":
      try Data("{}".utf8).write(to: tokens)
      problem = "tokens.json: truncated"
    case "link":
      try FileManager.default.removeItem(at: tokens)
      try FileManager.default.createSymbolicLink(
        at: tokens, withDestinationURL: Vectors.file("bundle/tokens.json"))
      problem = "a link out of the bundle"
    case "newer":
      let text = try String(decoding: Data(contentsOf: manifest), as: UTF8.self)
      try Data(
        text.replacingOccurrences(of: "\"schema_version\": 2", with: "\"schema_version\": 3").utf8
      ).write(to: manifest)
      problem = "newer than 2"
    case "target": problem = "target 'onnx', expected 'coreml'"
    default:
      try FileManager.default.removeItem(at: manifest)
      problem = "not a bundle"
    }
    let before = try FileManager.default.subpathsOfDirectory(atPath: root.path).sorted()
    let found = message { _ = try library.importing(folder) }
    #expect(found?.contains(problem) == true, "\(found ?? "taken")")
    #expect(try FileManager.default.subpathsOfDirectory(atPath: root.path).sorted() == before)
  }
}

@Suite struct CompiledModelCache {
  @Test func whatWasCompiledHoldsForTheVeryBundleAndSystem() throws {
    let root = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: root) }
    let cache = CompiledModels(root: root, bundle: "a", system: "22B83")
    #expect(cache.kept("encoder.mlpackage") == nil)
    let compiled = root.deletingLastPathComponent().appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: compiled, withIntermediateDirectories: true)
    let kept = try cache.keep(compiled, as: "encoder.mlpackage")
    #expect(cache.kept("encoder.mlpackage") == kept)
    #expect(!FileManager.default.fileExists(atPath: compiled.path))
    #expect(CompiledModels(root: root, bundle: "a", system: "22C1").kept("encoder.mlpackage") == nil)
    #expect(CompiledModels(root: root, bundle: "b", system: "22B83").kept("encoder.mlpackage") == nil)
  }

  @Test func thoseOfOlderBundlesAndSystemsGo() throws {
    let root = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: root) }
    for system in ["22A", "22B"] {
      let compiled = root.deletingLastPathComponent().appendingPathComponent(UUID().uuidString)
      try FileManager.default.createDirectory(at: compiled, withIntermediateDirectories: true)
      _ = try CompiledModels(root: root, bundle: "a", system: system).keep(compiled, as: "x")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: root.path).count == 1)
    #expect(CompiledModels(root: root, bundle: "a", system: "22B").kept("x") != nil)
  }
}

@Suite struct Recordings {
  @Test func aChangeOfRateLosesNothing() throws {
    var recording = Recording()
    let tone = { (rate: Int) in (0..<rate).map { Float(sin(2 * .pi * 440 * Double($0) / Double(rate))) } }
    recording.append(tone(48_000), rate: 48_000)
    recording.append(tone(24_000), rate: 24_000)
    #expect(recording.seconds == 2)
    #expect(try recording.waveform(at: 16_000).count == 32_000)
  }

  @Test func nothingSaidIsRefused() {
    #expect(message { _ = try Recording().waveform(at: 16_000) }?.contains("0 samples") == true)
  }

  @Test func theLevelGoesFromSilenceToFullScale() {
    #expect(level([]) == 0 && level([0, 0]) == 0 && level([1e-6]) == 0)
    #expect(level([1, -1]) == 1)
    #expect(abs(level([0.1, -0.1]) - 2 / 3) < 1e-5)
  }

  @Test func aFileForPlayersIsReadAgain() throws {
    let samples: [Float] = [0, 0.5, -0.5, 1, -1, 2, .nan]
    let pcm = try Pcm(parsing: wavData(samples, sampleRate: 16_000))
    #expect(pcm.sampleRate == 16_000)
    for (found, expected) in zip(pcm.mono(), [0, 0.5, -0.5, 1, -1, 1, 0] as [Float]) {
      #expect(abs(found - expected) < 1e-4)
    }
  }
}

@Suite struct HeadlessRuns {
  private let folder = URL(fileURLWithPath: "/documents")

  @Test func launchArgumentsArePlans() throws {
    #expect(try HeadlessPlan(["app"], folder: folder) == nil)
    let plan = try #require(
      try HeadlessPlan(
        ["app", "--lpa-run", "replay,wer", "--lpa-data", "speech.jsonl", "--lpa-units", "cpu,gpu"],
        folder: folder))
    #expect(plan.steps == [.replay, .wer] && plan.units == [.cpu, .gpu])
    #expect(plan.output.path == "/documents/report.json")
    #expect(plan.data?.path == "/documents/speech.jsonl")
  }

  @Test(arguments: [
    (["--lpa-run"], "needs a value"), (["--lpa-run", "sing"], "unknown 'sing'"),
    (["--lpa-run", "wer"], "--lpa-data"), (["--lpa-run", ""], "nothing to do"),
    (["--lpa-run", "bench", "--lpa-units", "tpu"], "'tpu'"),
  ])
  func otherArgumentsAreRefused(words: [String], problem: String) {
    let found = message { _ = try HeadlessPlan(words, folder: folder) }
    #expect(found?.contains(problem) == true)
  }

  @Test func theReportIsWrittenAndSaysWhetherGatesHeld() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: folder) }
    let bundle = try LPABundle(Vectors.file("bundle"))
    let plan = try #require(
      try HeadlessPlan(["--lpa-run", "replay,bench", "--lpa-units", "cpu,gpu"], folder: folder))
    let sound = try await plan.run(bundle) { _ in GoldenRunner(bundle: bundle) }
    #expect(sound == HeadlessOutcome() && sound.exitCode == 0)
    let report = try JSONValue(parsing: Data(contentsOf: plan.output))
    #expect(report.list("replays").count == 2 && report.list("benchmarks").count == 2)
    #expect(report["recognition"] == .null)
    let broken = try await plan.run(bundle) { _ in
      var runner = GoldenRunner(bundle: bundle)
      runner.change = { _, values in values.rows(0..<3) }
      return runner
    }
    #expect(!broken.passed && broken.exitCode == 1)
  }

  @Test func unitsThatBreakDoNotKeepTheOthersFromBeingMeasured() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: folder) }
    let bundle = try LPABundle(Vectors.file("bundle"))
    let plan = try #require(
      try HeadlessPlan(["--lpa-run", "replay", "--lpa-units", "gpu,cpu"], folder: folder))
    let outcome = try await plan.run(bundle) { units in
      if units == .gpu { throw LpaError("refused") }
      return GoldenRunner(bundle: bundle)
    }
    #expect(outcome.exitCode == 2 && outcome.problems == ["replay on CPU and GPU: refused"])
    #expect(try JSONValue(parsing: Data(contentsOf: plan.output)).list("replays").count == 1)
    try FileManager.default.removeItem(at: plan.output)
    await #expect(throws: LpaError("replay on CPU and GPU: refused")) {
      try await plan.run(bundle) { _ in throw LpaError("refused") }
    }
    #expect(!FileManager.default.fileExists(atPath: plan.output.path))
  }
}

@Suite struct Windows {
  private func entries() throws -> [(WindowSection, JSONValue)] {
    try Vectors.entries("windows.json").map {
      (try WindowSection(Fields($0["section"], place: "section", known: WindowSection.keys)), $0)
    }
  }

  @Test func spansAreThoseThatTheExporterDraws() throws {
    let entries = try entries()
    #expect(entries.count == 4)
    for (section, entry) in entries {
      let edges = try NpyArray(parsing: Vectors.data("windows/\(section.layer).npy")).matrix()
      let frames = entry.integer("frames")
      let found = try LayerWindows(section, frames: frames, edges: edges)
      #expect(found.pulses.count == section.heads * section.aperiodic + section.teeth.count + section.shares.count)
      for family in LayerWindows.Family.allCases {
        let expected = entry["expected"]?.list(family.rawValue) ?? []
        var used: [Int: Int] = [:]
        for pulse in found.pulses where pulse.family == family {
          let index = used[pulse.head, default: 0]
          used[pulse.head] = index + 1
          for frame in 0..<frames {
            // Windows that follow the frame are [T][H][K]; positional ones [H][K].
            let bounds = expected.map { edge -> Int in
              let heads = family == .positional ? edge : edge.items[frame]
              return heads.items[pulse.head].items[index].whole ?? -1
            }
            let window = bounds[0]..<bounds[1]
            let isHeard = family != .positional || window.contains(frame)
            #expect(pulse.spans[frame] == (isHeard ? window : nil))
          }
        }
      }
    }
  }

  @Test func thePictureCountsWindowsPerFrame() throws {
    let section = try WindowSection(
      Fields(
        JSONValue(
          parsing: Data(
            """
            {"layer": 3, "heads": 2, "aperiodic": 0, "edges": null,
             "teeth": [{"head": 0, "period": 2, "phase": 0, "width": 2}],
             "shares": [{"head": 1, "lower": 0.5, "upper": 1}]}
            """.utf8)), place: "section"))
    let found = try LayerWindows(section, frames: 4, edges: nil)
    #expect(
      found.counts(heads: [0, 1], families: [.periodic, .positional])
        == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]])
    #expect(found.counts(heads: [1], families: [.periodic]).joined().allSatisfy { $0 == 0 })
  }

  @Test func edgesOfAnotherShapeOrNoNumbersAreRefused() throws {
    let (section, entry) = try entries()[0]
    let frames = entry.integer("frames")
    #expect(message { _ = try LayerWindows(section, frames: frames, edges: nil) } != nil)
    let nan = try Matrix(rows: frames, columns: 16, values: [Float](repeating: .nan, count: 16 * frames))
    #expect(message { _ = try LayerWindows(section, frames: frames, edges: nan) } != nil)
    let huge = try Matrix(rows: frames, columns: 16, values: [Float](repeating: 1e30, count: 16 * frames))
    let clipped = try LayerWindows(section, frames: frames, edges: huge)
    #expect(clipped.pulses[0].spans[0] == frames - 1..<frames)
  }

  @Test func aBundleWithoutThemSaysHowToGetThem() async throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    await #expect(throws: LpaError.self) {
      try await layerWindows([0.1, 0.2], manifest: bundle.manifest, on: GoldenRunner(bundle: bundle))
    }
  }
}
