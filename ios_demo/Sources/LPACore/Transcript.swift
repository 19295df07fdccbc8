import Foundation

/// What was heard in one recording; times in seconds.
public struct Transcript: Sendable, Equatable {
  public let text: String
  public let words: [Word]
  public let duration: Double
  /// Where a long recording was cut.
  public let seams: [Double]

  public init(text: String, words: [Word], duration: Double, seams: [Double] = []) {
    self.text = text
    self.words = words
    self.duration = duration
    self.seams = seams
  }
}

/// Transcribes a waveform of any length: in pieces where it is longer than the runner takes, or
/// than `cut` samples.
///
/// `heard` is told what is understood so far behind every piece, and the share that is done.
/// Raises LpaError for a waveform without a frame, and what the runner raises.
public func transcribe(
  _ waveform: [Float], manifest: Manifest, vocabulary: CTCVocabulary, runner: some ModelRunner,
  cut: Int? = nil, heard: @Sendable (Transcript, Double) -> Void = { _, _ in }
) async throws -> Transcript {
  try manifest.requireFrames(waveform.count, atMost: nil)
  let longest = [cut, runner.maxSamples].compactMap { $0 }.min() ?? Int.max
  let pieces = try pieces(waveform, longest: longest, frames: manifest.frames)
  let hop = Double(manifest.frames.hop) / Double(manifest.sampleRate)
  var rows: [Float] = []
  var columns = 0
  var seams: [Double] = []
  var transcript = Transcript(text: "", words: [], duration: 0)
  for piece in pieces {
    try Task.checkCancellation()
    let logits = try await runner.logits(Array(waveform[piece.start..<piece.end]))
    let first = piece.firstFrame - piece.start / manifest.frames.hop
    let kept = logits.rows(first..<first + piece.lastFrame - piece.firstFrame)
    guard kept.rows == piece.lastFrame - piece.firstFrame else {
      throw LpaError("the model gave \(logits.rows) frames for \(piece.end - piece.start) samples")
    }
    rows += kept.values
    columns = kept.columns
    if piece.firstFrame > 0 { seams.append(Double(piece.firstFrame) * hop) }
    let all = try Matrix(rows: piece.lastFrame, columns: columns, values: rows)
    transcript = Transcript(
      text: try vocabulary.text(all), words: try vocabulary.words(all, hopSeconds: hop),
      duration: Double(waveform.count) / Double(manifest.sampleRate), seams: seams)
    heard(transcript, Double(piece.end) / Double(waveform.count))
  }
  return transcript
}

extension Transcript {
  /// As `lpa-transcribe --json` writes a recording; `seams` only where there are some.
  public func json(file: String, missingSeconds: Double = 0) -> JSONValue {
    let words = words.map { word in
      JSONValue.object([
        "text": .string(word.text), "start": .number(milliseconds(word.start)),
        "end": .number(milliseconds(word.end)),
      ])
    }
    var members: [String: JSONValue] = [
      "file": .string(file), "text": .string(text), "words": .array(words),
      "duration": .number(milliseconds(duration)),
      "missing_seconds": .number(milliseconds(missingSeconds)),
    ]
    if !seams.isEmpty { members["seams"] = .array(seams.map { .number(milliseconds($0)) }) }
    return .object(members)
  }

  /// Subtitles: lines of up to `characters` that end where a pause of half a second begins.
  public func srt(characters: Int = 42) -> String {
    var lines: [[Word]] = []
    for word in words {
      if let line = lines.last, let last = line.last, word.start - last.end < 0.5,
        line.reduce(word.text.count, { $0 + $1.text.count + 1 }) <= characters
      {
        lines[lines.count - 1].append(word)
      } else {
        lines.append([word])
      }
    }
    return lines.enumerated().map { index, line in
      let (start, end) = (line.first?.start ?? 0, line.last?.end ?? 0)
      let text = line.map(\.text).joined(separator: " ")
      return "\(index + 1)\n\(srtTime(start)) --> \(srtTime(end))\n\(text)\n"
    }.joined(separator: "\n")
  }
}

/// Seconds rounded to whole milliseconds, from their exact value (as Python rounds).
func milliseconds(_ seconds: Double) -> Double { Double(String(format: "%.3f", seconds)) ?? seconds }

private func srtTime(_ seconds: Double) -> String {
  let total = Int((seconds * 1000).rounded())
  return String(
    format: "%02d:%02d:%02d,%03d", total / 3_600_000, total / 60_000 % 60, total / 1000 % 60,
    total % 1000)
}
