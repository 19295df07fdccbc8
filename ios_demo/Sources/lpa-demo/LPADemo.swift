import Foundation
import LPACore

/// Exit codes, as those of the Python commands: 0 all gates hold, 1 one failed, 2 could not run.
enum ExitCode {
  static let passed: Int32 = 0
  static let gateFailed: Int32 = 1
  static let couldNotRun: Int32 = 2
}

let help = """
  lpa-demo: a bundle of lpa-export, run by the code of the demo app

    lpa-demo transcribe --bundle DIR FILE...   text of WAV and FLAC files
    lpa-demo replay --bundle DIR               golden clips, held to the bundle's gates
    lpa-demo bench --bundle DIR [FILE]         times and memory (default: the longest golden clip)
    lpa-demo wer --bundle DIR --data FILE      word error rate on the speech of a JSONL manifest

  --json          print JSON (replay, bench, wer: a report for lpa-validate --merge)
  --threads N     of ONNX Runtime (2)
  --units NAME    of Core ML: neural-engine, gpu, cpu, all
  --cut SECONDS|never
                  transcribe: cut recordings that are longer, at silences (default: 20)
  --passes N      bench: timed passes (20)

  Exit code: 0 all gates hold, 1 a gate failed, 2 could not run.
  """

let commands: [String: @Sendable (Session) async throws -> Int32] = [
  "transcribe": transcribeFiles, "replay": replayGolden, "bench": runBenchmark, "wer": measureWER,
]

@main
struct LPADemo {
  static func main() async {
    exit(await run(Array(CommandLine.arguments.dropFirst())))
  }
}

func run(_ words: [String]) async -> Int32 {
  guard let name = words.first, !words.contains("--help") else {
    print(help)
    return words.isEmpty ? ExitCode.couldNotRun : ExitCode.passed
  }
  do {
    guard let command = commands[name] else {
      throw LpaError("unknown command '\(name)'; known: \(commands.keys.sorted().joined(separator: ", "))")
    }
    return try await command(await Session(Array(words.dropFirst())))
  } catch {
    note("error", error.oneLine)
    return ExitCode.couldNotRun
  }
}
