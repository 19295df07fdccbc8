import Foundation

/// What came of a run without screens: a unit that breaks does not keep the others from being measured.
public struct HeadlessOutcome: Sendable, Equatable {
  /// Whether every gate held that was judged.
  public var passed = true
  /// One line per measurement that could not be made.
  public var problems: [String] = []

  /// As those of the commands: 0 all gates hold, 1 a gate failed, 2 something could not be measured.
  public var exitCode: Int32 { problems.isEmpty ? (passed ? 0 : 1) : 2 }
}

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
  /// The report is `report.json` in `folder`, where FILE is looked for too. Raises LpaError for words
  /// that are not understood.
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

  /// Runs the steps and writes the report of all that could be measured.
  ///
  /// Raises LpaError where nothing was measured, and where the report cannot be written.
  public func run(
    _ bundle: LPABundle, open: @escaping @Sendable (ComputeUnits) async throws -> any ModelRunner
  ) async throws -> HeadlessOutcome {
    var report = DeviceReport(bundle)
    var outcome = HeadlessOutcome()
    for units in units {
      for step in steps {
        do {
          let passed = try await take(step, into: &report) { try await open(units) }
          outcome.passed = outcome.passed && passed
        } catch {
          outcome.problems.append("\(step.rawValue) on \(units.title): \(error.oneLine)")
        }
      }
    }
    if report.isEmpty, let first = outcome.problems.first { throw LpaError(first) }
    try report.write(to: output)
    return outcome
  }

  /// One step on one runner; whether its gates held.
  private func take(
    _ step: Step, into report: inout DeviceReport,
    open: @Sendable () async throws -> any ModelRunner
  ) async throws -> Bool {
    let bundle = report.bundle
    switch step {
    case .replay:
      let result = try await replay(bundle, on: open())
      report.replays.append(result)
      return result.passed
    case .bench:
      let clips = try bundle.goldenClips().map { try bundle.waveform(of: $0) }
      let longest = clips.max { $0.count < $1.count } ?? []
      report.benchmarks.append(
        try await benchmark(
          longest, sampleRate: bundle.manifest.sampleRate, passes: 20, open: open))
      return true
    case .wer:
      // One is enough: the first units that do it.
      guard report.recognition == nil, let data else { return true }
      let found = try await recognise(
        loadUtterances(data), dataName: data.deletingPathExtension().lastPathComponent,
        bundle: bundle, runner: open())
      report.recognition = found
      return found.errors.wer <= bundle.manifest.gates.referenceWERCeiling
    }
  }
}
