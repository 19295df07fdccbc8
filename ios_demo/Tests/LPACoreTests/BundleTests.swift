import Foundation
import Testing

@testable import LPACore

@Suite struct Bundles {
  @Test func aSoundOneOpens() throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    #expect(bundle.damage().isEmpty)
    #expect(bundle.manifest.model == "an4-tiny" && bundle.manifest.scheme == "fp32")
    #expect(bundle.manifest.gates.psnrDB == 90 && bundle.manifest.gates.argmaxAgreement == 0.999)
    #expect(try bundle.vocabulary().count == 29)
    #expect(try bundle.goldenClips().map(\.id) == ["demo0008"])
    #expect(try bundle.sha256 == Sha256.ofFile(Vectors.file("bundle/manifest.json")))
  }

  @Test(arguments: [
    ("tokens.json", "swapped"), ("model.onnx", "changed"), ("golden/demo0008.flac", "missing"),
    ("golden/demo0008.logits.npy", "truncated"),
  ])
  func eachDamageIsNamed(file: String, how: String) throws {
    let folder = try Vectors.bundleCopy()
    defer { try? FileManager.default.removeItem(at: folder) }
    let place = folder.appendingPathComponent(file)
    var data = try Data(contentsOf: place)
    switch how {
    case "missing": try FileManager.default.removeItem(at: place)
    case "truncated": try data.dropLast(8).write(to: place)
    default:
      data.swapAt(4, 10)
      try data.write(to: place)
    }
    let bundle = try LPABundle(folder)
    let damage = bundle.damage()
    #expect(damage.count == 1)
    let kind = how == "missing" || how == "truncated" ? how : "altered"
    #expect(damage.first?.hasPrefix("\(file): \(kind)") == true)
    #expect(message { try bundle.requireSound() }?.contains("damaged: \(file)") == true)
  }

  @Test func aLinkOutOfTheFolderIsRefused() throws {
    let folder = try Vectors.bundleCopy()
    defer { try? FileManager.default.removeItem(at: folder) }
    let place = folder.appendingPathComponent("tokens.json")
    try FileManager.default.removeItem(at: place)
    try FileManager.default.createSymbolicLink(
      at: place, withDestinationURL: Vectors.file("bundle/tokens.json"))
    let bundle = try LPABundle(folder)
    #expect(bundle.damage() == ["tokens.json: a link out of the bundle"])
    #expect(message { _ = try bundle.vocabulary() }?.contains("a link out of the bundle") == true)
  }

  @Test func whatNobodyListedIsNamed() throws {
    let folder = try Vectors.bundleCopy()
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data("x".utf8).write(to: folder.appendingPathComponent("golden/more.txt"))
    try Data("x".utf8).write(to: folder.appendingPathComponent("report.json"))
    #expect(try LPABundle(folder).damage() == ["golden/more.txt: not listed in the manifest"])
  }

  @Test func whatIsNoBundleIsRefused() throws {
    let nowhere = message { _ = try LPABundle(URL(fileURLWithPath: "/nowhere")) }
    #expect(nowhere?.contains("no such bundle folder") == true)
    let other = message { _ = try LPABundle(Vectors.file("wav")) }
    #expect(other?.contains("not a bundle") == true)
  }

  @Test func aBundleOfAnotherTargetIsRefused() throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    let found = message { try bundle.require(targets: ["coreml"], hint: "; see lpa-demo") }
    #expect(found == "bundle: a bundle for target 'onnx', expected 'coreml'; see lpa-demo")
  }
}

@Suite struct Manifests {
  private func changed(_ text: String, _ other: String) throws -> String? {
    let whole = try String(decoding: Vectors.data("bundle/manifest.json"), as: UTF8.self)
    #expect(whole.contains(text), "\(text) is not in the manifest")
    let data = Data(whole.replacingOccurrences(of: text, with: other).utf8)
    return message { _ = try Manifest(parsing: data) }
  }

  @Test func aNewerOneIsRefused() throws {
    let version = Manifest.newestVersion
    let found = try changed(
      "\"schema_version\": \(version)", "\"schema_version\": \(version + 1)")
    #expect(found?.contains("newer than \(version)") == true)
  }

  @Test func anOlderOneIsRefused() throws {
    let found = try changed("\"schema_version\": 2", "\"schema_version\": 1")
    #expect(found?.contains("older than 2; export it again") == true)
  }

  @Test(arguments: [
    ("\"schema_version\"", "\"version\"", "no 'schema_version'"),
    ("\"tools\"", "\"tool\"", "unknown member 'tool'"),
    ("\"kernels\"", "\"kernel\"", "unknown member 'kernel'"),
    ("\"receptive_field\": 1360", "\"receptive_field\": 1361", "'receptive_field'"),
    ("\"where\": \"graph\"", "\"where\": \"cloud\"", "'where'"),
    ("\"version\": \"2\"", "\"version\": \"9\"", "lpa-text/9"),
    ("\"model.onnx\"", "\"../model.onnx\"", "inside the bundle"),
    ("\"model.onnx\"", "\"/model.onnx\"", "inside the bundle"),
    ("\"model.onnx\"", "\"C:\\\\model.onnx\"", "inside the bundle"),
    ("\"hop\": 320", "\"hop\": 321", "'hop'"),
    ("\"sample_rate\": 16000", "\"sample_rate\": \"16000\"", "'sample_rate'"),
    ("\"size\": 29", "\"size\": 29, \"size\": 30", "twice"),
    ("\"wer_difference_points\": 0.0", "\"wer_difference_points\": null", "'wer_difference_points'"),
  ])
  func whatIsWrongIsNamed(text: String, other: String, problem: String) throws {
    let found = try changed(text, other)
    #expect(found?.contains(problem) == true, "\(found ?? "taken")")
  }

  @Test func aCutOffOneIsRefused() throws {
    let data = try Vectors.data("bundle/manifest.json")
    for length in stride(from: 0, to: data.count - 2, by: 97) {
      #expect(message { _ = try Manifest(parsing: data.prefix(length)) } != nil)
    }
  }
}

/// The reader knows exactly the members that the exporter's schema files have.
@Suite struct ManifestSchema {
  private func members(_ name: String, in file: String = "manifest") throws -> Set<String> {
    let place = Vectors.repository.appendingPathComponent("lpa_export/formats/\(file).schema.json")
    let schema = try JSONValue(parsing: Data(contentsOf: place))
    guard case .object(let properties)? = schema["$defs"]?[name]?["properties"] else {
      throw LpaError("\(name) is not in the schema")
    }
    return Set(properties.keys)
  }

  @Test func membersAreThoseOfTheSchema() throws {
    #expect(try members("Manifest") == Manifest.keys)
    #expect(try members("Scheme") == Manifest.schemeKeys)
    #expect(try members("Source") == Manifest.checkpointKeys)
    #expect(try members("FileEntry") == Manifest.File.keys)
    #expect(try members("Tap") == Manifest.Tap.keys)
    #expect(try members("Bucket") == Manifest.Bucket.keys)
    #expect(try members("VocabularyEntry") == Manifest.Vocabulary.keys)
    #expect(try members("Normalisation") == Manifest.Normalisation.keys)
    #expect(try members("Normaliser") == TextRule.keys)
    #expect(try members("Frames") == FrameArithmetic.keys)
    #expect(try members("Gates") == Gates.keys)
    #expect(try members("GoldenEntry", in: "golden") == GoldenClip.keys)
  }

  @Test func theVersionIsThatOfTheSchema() throws {
    let place = Vectors.repository.appendingPathComponent("lpa_export/formats/manifest.schema.json")
    let schema = try JSONValue(parsing: Data(contentsOf: place))
    let version = schema["$defs"]?["Manifest"]?["properties"]?["schema_version"]
    #expect(version?["enum"]?.integers == [Manifest.newestVersion])
  }
}

@Suite struct CoreMLBuckets {
  private func programs(_ runtime: JSONValue, artifacts: [String]) throws -> CoreMLPrograms {
    var whole = try Vectors.json("bundle/manifest.json")
    guard case .object(var members) = whole else { throw LpaError("no object") }
    members["runtime"] = runtime
    members["buckets"] = try Vectors.json("coreml.json")["buckets"]
    members["artifacts"] = .array(artifacts.map(JSONValue.string))
    let entry = JSONValue.object([
      "bytes": .integer(0), "sha256": .string(String(repeating: "0", count: 64)),
    ])
    members["files"] = .object(Dictionary(uniqueKeysWithValues: artifacts.map { ($0, entry) }))
    whole = .object(members)
    return try CoreMLPrograms(Manifest(parsing: Data(whole.rendered.utf8)))
  }

  @Test func theSmallestThatHoldsTheFramesIsTaken() throws {
    let json = try Vectors.json("coreml.json")
    let runtime = try #require(json["runtime"])
    let found = try programs(runtime, artifacts: ["frontend.mlpackage", "encoder.mlpackage"])
    #expect(found.frontEnd?.package == "frontend.mlpackage")
    #expect(found.taps?.program.function == "taps" && found.taps?.frames == found.buckets[0].frames)
    #expect(found.windows.map(\.layer) == [0, 1, 2, 3])
    for entry in json.list("cases") {
      let bucket = try found.bucket(for: entry.integer("frames"))
      #expect(bucket.frames == entry.integer("bucket"))
      #expect(bucket.program.function == "frames_\(bucket.frames)")
    }
    let many = message { _ = try found.bucket(for: json.integer("too_many")) }
    #expect(many?.contains("no bucket") == true)
  }

  @Test func aPackageThatIsNoArtifactIsRefused() throws {
    let runtime = try #require(try Vectors.json("coreml.json")["runtime"])
    let found = message { _ = try programs(runtime, artifacts: ["frontend.mlpackage"]) }
    #expect(found?.contains("one of the artifacts") == true)
  }

  @Test func framesArePaddedWithZerosAndMasked() throws {
    let found = try padded([1, 2, 3, 4, 5, 6], width: 2, frames: 3, bucket: 5)
    #expect(found.values == [1, 2, 3, 0, 0, 4, 5, 6, 0, 0])
    #expect(found.mask == [1, 1, 1, 0, 0])
    #expect(message { _ = try padded([1, 2], width: 1, frames: 2, bucket: 1) } != nil)
  }
}
