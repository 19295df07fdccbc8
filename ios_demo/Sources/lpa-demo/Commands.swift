import Foundation
import LPACore

/// What every command works with.
struct Session: Sendable {
  let arguments: Arguments
  let bundle: LPABundle
  private let threads: Int
  private let units: String

  init(_ words: [String]) async throws {
    arguments = try Arguments(
      words,
      options: ["--bundle", "--threads", "--units", "--cut", "--passes", "--data"],
      flags: ["--json"])
    threads = try arguments.number("--threads", atLeast: 1, default: 2)
    units = arguments["--units"] ?? Runners.defaultUnits
    bundle = try await Runners.openBundle(arguments.requiredPath("--bundle"))
  }

  var wantsJSON: Bool { arguments.has("--json") }

  func open() async throws -> any ModelRunner {
    try await Runners.open(bundle, threads: threads, units: units)
  }

  func requireNoFiles() throws {
    guard arguments.rest.isEmpty else { throw LpaError("unexpected '\(arguments.rest[0])'") }
  }
}

@Sendable func transcribeFiles(_ session: Session) async throws -> Int32 {
  let files = session.arguments.rest
  guard !files.isEmpty else { throw LpaError("transcribe needs a WAV or FLAC file") }
  let manifest = session.bundle.manifest
  let cut = session.arguments["--cut"] == "never"
    ? nil
    : try session.arguments.number("--cut", atLeast: 1, default: automaticCutSeconds)
      * manifest.sampleRate
  let vocabulary = try session.bundle.vocabulary()
  let runner = try await session.open()
  var entries: [JSONValue] = []
  var refused: [JSONValue] = []
  for file in files {
    do {
      let recording = try loadRecording(URL(fileURLWithPath: file), at: manifest.sampleRate)
      let transcript = try await transcribe(
        recording.samples, manifest: manifest, vocabulary: vocabulary, runner: runner, cut: cut)
      entries.append(transcript.json(file: file, missingSeconds: recording.missingSeconds))
      if recording.missingSeconds > 0 {
        note("warning", String(format: "\(file): cut off, %.1f s are missing", recording.missingSeconds))
      }
      if !session.wantsJSON {
        print(files.count > 1 ? "\(file): \(transcript.text)" : transcript.text)
        fflush(nil)  // Through a pipe too, a text is seen when it is there.
      }
    } catch {
      // One bad file does not keep the others from being read.
      let name = URL(fileURLWithPath: file).lastPathComponent
      let said = error.oneLine
      let line = said.hasPrefix(name) || said.hasPrefix(file) ? said : "\(name): \(said)"
      note("error", line)
      refused.append(.object(["file": .string(file), "error": .string(line)]))
    }
  }
  if session.wantsJSON { print(JSONValue.array(entries + refused).rendered, terminator: "") }
  return refused.isEmpty ? ExitCode.passed : ExitCode.couldNotRun
}

/// One line on stderr.
func note(_ kind: String, _ line: String) {
  FileHandle.standardError.write(Data("lpa-demo: \(kind): \(line)\n".utf8))
}

@Sendable func replayGolden(_ session: Session) async throws -> Int32 {
  try session.requireNoFiles()
  let result = try await replay(session.bundle, on: session.open())
  var report = DeviceReport(session.bundle)
  report.replays = [result]
  if session.wantsJSON {
    print(try report.json().rendered, terminator: "")
  } else {
    show(result, manifest: session.bundle.manifest)
  }
  guard result.isJudged else { return ExitCode.couldNotRun }
  return result.passed ? ExitCode.passed : ExitCode.gateFailed
}

@Sendable func runBenchmark(_ session: Session) async throws -> Int32 {
  let manifest = session.bundle.manifest
  let passes = try session.arguments.number("--passes", atLeast: 1, default: 20)
  guard session.arguments.rest.count <= 1 else { throw LpaError("bench takes one file at most") }
  let waveform: [Float]
  if let file = session.arguments.rest.first {
    waveform = try loadWaveform(URL(fileURLWithPath: file), at: manifest.sampleRate)
  } else {
    let clips = try session.bundle.goldenClips().map { try session.bundle.waveform(of: $0) }
    waveform = clips.max { $0.count < $1.count } ?? []
  }
  let result = try await benchmark(
    waveform, sampleRate: manifest.sampleRate, passes: passes, open: session.open)
  var report = DeviceReport(session.bundle)
  report.benchmarks = [result]
  if session.wantsJSON {
    print(try report.json().rendered, terminator: "")
    return ExitCode.passed
  }
  print("\(result.runtime), \(String(format: "%.2f", result.audioSeconds)) s of audio")
  for (name, seconds) in [
    ("cold", result.cold), ("warm", result.warm), ("p50", result.p50), ("p95", result.p95),
  ] {
    print("  \(name)  \(String(format: "%.1f ms", 1000 * seconds))")
  }
  print("  real-time factor \(String(format: "%.4f", result.realTimeFactor))")
  if let bytes = result.peakMemoryBytes { print("  peak memory \(bytes >> 20) MB") }
  if let states = result.thermalStates { print("  thermal state \(states.joined(separator: " -> "))") }
  return ExitCode.passed
}

@Sendable func measureWER(_ session: Session) async throws -> Int32 {
  try session.requireNoFiles()
  let data = try session.arguments.requiredPath("--data")
  let utterances = try loadUtterances(data)
  let recognition = try await recognise(
    utterances, dataName: data.deletingPathExtension().lastPathComponent, bundle: session.bundle,
    runner: session.open())
  var report = DeviceReport(session.bundle)
  report.recognition = recognition
  let errors = recognition.errors
  let ceiling = session.bundle.manifest.gates.referenceWERCeiling
  if session.wantsJSON {
    print(try report.json().rendered, terminator: "")
  } else {
    let counts = "\(errors.substitutions) sub, \(errors.deletions) del, \(errors.insertions) ins"
    print("WER \(String(format: "%.2f", errors.wer)) % (\(counts) in \(errors.words) words)")
    print("normaliser \(TextRule.name)/\(TextRule.version); must be <= \(ceiling) %")
  }
  return errors.wer <= ceiling ? ExitCode.passed : ExitCode.gateFailed
}

private func show(_ result: ReplayResult, manifest: Manifest) {
  print("\(manifest.model) \(manifest.scheme), \(result.runtime), \(result.clips.count) golden clips")
  for row in result.taps {
    let verdict = row.passed.map { $0 ? "pass" : "FAIL" } ?? "-"
    let gate = row.gateDB.map { String(format: ">= %.0f dB", $0) } ?? "no gate"
    let value = row.psnrDB.map { String(format: "%.1f dB", $0) } ?? "not reachable"
    print("  \(verdict)  \(row.tap)  \(value)  (\(gate))")
  }
  print("  argmax agreement \(result.argmaxAgreement)")
  for clip in result.clips { print("  \(clip.id)  '\(clip.transcript)'") }
  for line in result.failures { print("  \(line)") }
  if let tap = result.firstDiverging { print("  first diverging tap: \(tap.tap)") }
  print(result.passed ? "all gates hold" : result.isJudged ? "a gate failed" : "nothing to judge by")
}
