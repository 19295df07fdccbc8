import Foundation

/// What one device found out about one bundle: `lpa-validate --merge` takes it into its report.
public struct DeviceReport: Sendable {
  public static let schemaVersion = 1

  /// Speech that was transcribed, and how well.
  public struct Recognition: Sendable {
    public let runtime: String
    public let dataName: String
    public let dataSha256: String
    public let errors: WordErrors
    public let transcripts: [(id: String, text: String, transcript: String)]

    public init(
      runtime: String, dataName: String, dataSha256: String, errors: WordErrors,
      transcripts: [(id: String, text: String, transcript: String)]
    ) {
      self.runtime = runtime
      self.dataName = dataName
      self.dataSha256 = dataSha256
      self.errors = errors
      self.transcripts = transcripts
    }
  }

  public let bundle: LPABundle
  public let device: Device
  public var replays: [ReplayResult] = []
  public var recognition: Recognition?
  public var benchmarks: [BenchmarkResult] = []

  /// Whether nothing was measured yet.
  public var isEmpty: Bool { replays.isEmpty && recognition == nil && benchmarks.isEmpty }

  public init(_ bundle: LPABundle, device: Device = .current) {
    self.bundle = bundle
    self.device = device
  }

  /// Raises LpaError when the golden clips are not those of the manifest.
  public func json() throws -> JSONValue {
    let manifest = bundle.manifest
    return .object([
      "schema_version": .integer(DeviceReport.schemaVersion),
      "bundle": .object([
        "model": .string(manifest.model), "target": .string(manifest.target),
        "scheme": .string(manifest.scheme), "manifest_sha256": .string(bundle.sha256),
      ]),
      "device": .object([
        "name": .string(device.name), "os": .string(device.system),
        "simulator": .bool(device.isSimulator),
      ]),
      "normaliser": .object([
        "name": .string(TextRule.name), "version": .string(TextRule.version),
      ]),
      "golden": .object(try bundle.goldenHashes().mapValues(JSONValue.string)),
      "replays": .array(replays.map(\.json)),
      "recognition": recognition?.json ?? .null,
      "benchmarks": .array(benchmarks.map(\.json)),
    ])
  }

  /// Writes the report whole or not at all.
  public func write(to file: URL) throws {
    let text = try json().rendered
    do {
      try Data(text.utf8).write(to: file, options: .atomic)
    } catch {
      throw LpaError("\(file.path): cannot be written")
    }
  }
}

/// The machine that this runs on. No serial number and no name given by its owner.
public struct Device: Sendable, Equatable {
  /// "iPhone15,2", "arm64 Mac", "x86_64".
  public let name: String
  public let system: String
  public let isSimulator: Bool

  public init(name: String, system: String, isSimulator: Bool) {
    self.name = name
    self.system = system
    self.isSimulator = isSimulator
  }

  public static var current: Device {
    let information = ProcessInfo.processInfo
    let simulated = information.environment["SIMULATOR_MODEL_IDENTIFIER"]
    return Device(
      name: simulated ?? machine(), system: systemName + " " + information.operatingSystemVersionString,
      isSimulator: simulated != nil)
  }

  private static func machine() -> String {
    var names = utsname()
    guard uname(&names) == 0 else { return "unknown" }
    return withUnsafeBytes(of: &names.machine) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  private static var systemName: String {
    #if os(iOS)
      "iOS"
    #elseif os(macOS)
      "macOS"
    #else
      "Linux"
    #endif
  }
}

extension ReplayResult {
  var json: JSONValue {
    .object([
      "runtime": .string(runtime),
      "units": units.map { .string($0.rawValue) } ?? .null,
      "passed": .bool(passed),
      "failures": .array(failures.map(JSONValue.string)),
      "first_diverging_tap": firstDiverging.map { .string($0.tap) } ?? .null,
      "argmax_agreement": JSONValue(figure: argmaxAgreement),
      "argmax_gate": argmaxGate.map(JSONValue.number) ?? .null,
      "changed_transcripts": .integer(changedTranscripts.count),
      "taps": .array(taps.map(\.json)),
      "clips": .array(
        clips.map { clip in
          .object([
            "id": .string(clip.id), "psnr_db": JSONValue(figure: clip.psnrDB),
            "transcript": .string(clip.transcript), "expected": .string(clip.expected),
          ])
        }),
    ])
  }
}

extension TapResult {
  var json: JSONValue {
    .object([
      "name": .string(tap), "kind": .string(kind),
      "psnr_db": psnrDB.map(JSONValue.init(figure:)) ?? .null,
      "largest_difference": largestDifference.map(JSONValue.init(figure:)) ?? .null,
      "gate_db": gateDB.map(JSONValue.number) ?? .null,
      "passed": passed.map(JSONValue.bool) ?? .null,
    ])
  }
}

extension BenchmarkResult {
  var json: JSONValue {
    .object([
      "runtime": .string(runtime), "units": units.map { .string($0.rawValue) } ?? .null,
      "audio_seconds": .number(audioSeconds), "cold": .number(cold),
      "warm": .number(warm), "p50": .number(p50), "p95": .number(p95),
      "passes": .integer(passes.count), "real_time_factor": .number(realTimeFactor),
      "peak_memory_bytes": peakMemoryBytes.map(JSONValue.integer) ?? .null,
      "thermal_states": thermalStates.map { .array($0.map(JSONValue.string)) } ?? .null,
    ])
  }
}

extension DeviceReport.Recognition {
  var json: JSONValue {
    .object([
      "runtime": .string(runtime),
      "data": .object([
        "name": .string(dataName), "sha256": .string(dataSha256),
        "utterances": .integer(transcripts.count), "words": .integer(errors.words),
      ]),
      "wer": .number(errors.wer), "substitutions": .integer(errors.substitutions),
      "deletions": .integer(errors.deletions), "insertions": .integer(errors.insertions),
      "transcripts": .array(
        transcripts.map { item in
          .object([
            "id": .string(item.id), "text": .string(item.text),
            "transcript": .string(item.transcript),
          ])
        }),
    ])
  }
}
