import Foundation

/// What an app that was started with `--lpa-run` does before it leaves again: the way to measure
/// on a device from a script.
public struct HeadlessPlan: Sendable, Equatable {
  public enum Step: String, CaseIterable, Sendable {
    case replay, wer, bench
  }

  public let steps: [Step]
  /// A JSONL manifest; needed for the WER.
  public let data: URL?
  public let output: URL
  public let units: [ComputeUnits]

  /// Nil where the words do not ask for it.
  ///
  ///     --lpa-run replay,wer,bench [--lpa-data FILE] [--lpa-units cpu,neural-engine]
  ///
  /// The report is `report.json` in `folder`, where FILE is looked for too. Raises LpaError for words that are not understood.
  public init?(_ words: [String], folder: URL) throws {
    func value(_ option: String) throws -> String? {
      guard let position = words.firstIndex(of: option) else { return nil }
      guard position + 1 < words.count else { throw LpaError("\(option) needs a value") }
      return words[position + 1]
    }
    guard let names = try value("--lpa-run") else { return nil }
    steps = try names.split(separator: ",").map {
      guard let step = Step(rawValue: String($0)) else {
        let known = Step.allCases.map(\.rawValue).joined(separator: ", ")
        throw LpaError("--lpa-run: unknown '\($0)'; known: \(known)")
      }
      return step
    }
    units = try (value("--lpa-units") ?? "neural-engine").split(separator: ",").map {
      try ComputeUnits(named: String($0))
    }
    data = try value("--lpa-data").map {
      $0.hasPrefix("/") ? URL(fileURLWithPath: $0) : folder.appendingPathComponent($0)
    }
    output = folder.appendingPathComponent("report.json")
    guard !steps.isEmpty, !units.isEmpty else { throw LpaError("--lpa-run: nothing to do") }
    guard !steps.contains(.wer) || data != nil else {
      throw LpaError("--lpa-run wer needs the speech: --lpa-data FILE")
    }
  }

  /// Runs the steps, writes the report, and says whether all gates held.
  public func run(
    _ bundle: LPABundle, open: @escaping @Sendable (ComputeUnits) async throws -> any ModelRunner
  ) async throws -> Bool {
    var report = DeviceReport(bundle)
    var passed = true
    for units in units {
      for step in steps {
        switch step {
        case .replay:
          let result = try await replay(bundle, on: open(units))
          passed = passed && result.passed
          report.replays.append(result)
        case .bench:
          let clips = try bundle.goldenClips().map { try bundle.waveform(of: $0) }
          let longest = clips.max { $0.count < $1.count } ?? []
          report.benchmarks.append(
            try await benchmark(
              longest, sampleRate: bundle.manifest.sampleRate, passes: 20
            ) { try await open(units) })
        case .wer:
          // One is enough: the first units asked for.
          guard report.recognition == nil, let data else { continue }
          let found = try await recognise(
            loadUtterances(data), dataName: data.deletingPathExtension().lastPathComponent,
            bundle: bundle, runner: open(units))
          passed = passed && found.errors.wer <= bundle.manifest.gates.referenceWERCeiling
          report.recognition = found
        }
      }
    }
    try report.write(to: output)
    return passed
  }
}
