import Foundation
import Testing

@testable import LPACore

/// As much of JSON Schema as the exporter's schema files use.
private struct Schema {
  let root: JSONValue

  init(_ path: String) throws {
    root = try JSONValue(parsing: Data(contentsOf: Vectors.repository.appendingPathComponent(path)))
  }

  /// What does not fit, each with its place.
  func problems(_ value: JSONValue) -> [String] { problems(value, root, "$") }

  private func problems(_ value: JSONValue, _ schema: JSONValue, _ place: String) -> [String] {
    if let reference = schema["$ref"]?.text {
      let name = String(reference.split(separator: "/").last ?? "")
      return problems(value, root["$defs"]?[name] ?? .null, place)
    }
    if let choices = schema["anyOf"]?.items {
      let fits = choices.contains { problems(value, $0, place).isEmpty }
      return fits ? [] : ["\(place): fits no choice"]
    }
    if let allowed = schema["enum"]?.items { return allowed.contains(value) ? [] : ["\(place): \(value)"] }
    var found: [String] = []
    switch (schema["type"]?.text, value) {
    case (nil, _), ("string", .string), ("boolean", .bool), ("null", .null), ("integer", .integer),
      ("number", .integer), ("number", .number):
      break
    case ("array", .array(let items)):
      guard let inner = schema["items"] else { break }
      for (index, item) in items.enumerated() {
        found += problems(item, inner, "\(place)[\(index)]")
      }
    case ("object", .object(let members)):
      for key in schema.list("required").compactMap(\.text) where members[key] == nil {
        found.append("\(place): no '\(key)'")
      }
      for (key, member) in members {
        if let inner = schema["properties"]?[key] {
          found += problems(member, inner, "\(place).\(key)")
        } else if schema["additionalProperties"] == .bool(false) {
          found.append("\(place): unknown '\(key)'")
        } else if case .object? = schema["additionalProperties"] {
          found += problems(member, schema["additionalProperties"] ?? .null, "\(place).\(key)")
        }
      }
    case (let type, _): found.append("\(place): expected \(type ?? "?")")
    }
    return found
  }
}

@Suite struct Schemas {
  private let device = "validation/lpa_validate/device_report.schema.json"

  @Test func theStoredBundleFitsTheExportersSchemas() throws {
    let manifest = try Schema("lpa_export/formats/manifest.schema.json")
    #expect(try manifest.problems(Vectors.json("bundle/manifest.json")) == [])
    let golden = try Schema("lpa_export/formats/golden.schema.json")
    #expect(try golden.problems(Vectors.json("bundle/golden/index.json")) == [])
  }

  @Test func aFullReportFitsTheSchemaInfinitePSNRIncluded() async throws {
    let bundle = try LPABundle(Vectors.file("bundle"))
    var report = DeviceReport(bundle)
    var runner = GoldenRunner(bundle: bundle)
    report.replays = [try await replay(bundle, on: runner)]
    runner.change = { tap, values in
      var broken = values
      if tap == "logits" { broken.values[0] = .nan }
      return broken
    }
    runner.reachableTaps = ["logits"]
    report.replays.append(try await replay(bundle, on: runner))
    let waveform = try bundle.waveform(of: bundle.goldenClips()[0])
    report.benchmarks = [
      try await benchmark(waveform, sampleRate: 16_000, passes: 2) { GoldenRunner(bundle: bundle) }
    ]
    let speech = [
      Utterance(id: "a", audio: Vectors.file("bundle/golden/demo0008.flac"), text: "NINE NINE")
    ]
    report.recognition = try await recognise(
      speech, dataName: "speech", bundle: bundle, runner: GoldenRunner(bundle: bundle))
    let json = try JSONValue(parsing: Data(report.json().rendered.utf8))
    #expect(try Schema(device).problems(json) == [])
    let figures = json.list("replays").map { $0.list("taps").last?["psnr_db"] }
    #expect(figures == [.string("inf"), .string("nan")])
  }

  @Test func theSchemaRefusesWhatDoesNotFit() throws {
    let schema = try Schema(device)
    #expect(!schema.problems(.object([:])).isEmpty)
    guard case .object(var members) = try DeviceReport(LPABundle(Vectors.file("bundle"))).json()
    else { return }
    #expect(schema.problems(.object(members)) == [])
    members["more"] = .null
    #expect(schema.problems(.object(members)) == ["$: unknown 'more'"])
    members["more"] = nil
    members["golden"] = .array([])
    #expect(schema.problems(.object(members)) == ["$.golden: expected object"])
  }
}
