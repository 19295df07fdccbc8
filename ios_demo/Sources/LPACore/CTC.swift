import Foundation

/// The tokens of a CTC head: what each output means, and what it adds to a transcript.
///
/// CTC (Graves et al., 2006): a frame speaks one token or the blank; repeats are merged, then
/// blanks dropped. Everything here is greedy, without a language model.
public struct CTCVocabulary: Sendable, Equatable {
  /// What token i adds to a transcript: a space for a word delimiter, nothing for the blank.
  public let texts: [String]
  public let blank: Int
  /// Id to the first id of the same token: outputs without a name share the unknown one.
  private let firstAlike: [Int]

  public var count: Int { texts.count }

  /// Raises LpaError when the blank is not among the tokens, or there are not as many of both.
  public init(tokens: [String], texts: [String], blank: Int) throws {
    guard tokens.count == texts.count else {
      throw LpaError("\(tokens.count) tokens, but \(texts.count) texts")
    }
    guard tokens.indices.contains(blank) else {
      throw LpaError("no token for the blank's id \(blank)")
    }
    // By scalars: Swift takes composed and decomposed letters for equal, a vocabulary does not.
    var first: [[Unicode.Scalar]: Int] = [:]
    firstAlike = tokens.enumerated().map { index, token in
      let key = Array(token.unicodeScalars)
      if let earlier = first[key] { return earlier }
      first[key] = index
      return index
    }
    self.texts = texts
    self.blank = blank
  }

  static let keys: Set = ["blank", "spelling", "tokens", "word_delimiter"]
  static let tokenKeys: Set = ["special", "text", "token"]

  /// Reads a bundle's tokens.json. Raises LpaError, beginning with `place`, for anything else.
  public init(parsing data: Data, place: String) throws {
    do {
      let fields = try Fields(JSONValue(parsing: data), place: "it", known: Self.keys)
      let entries = try fields.objects("tokens", known: Self.tokenKeys)
      for entry in entries { _ = try entry.bool("special", default: false) }
      try self.init(
        tokens: entries.map { try $0.string("token") }, texts: entries.map { try $0.string("text") },
        blank: fields.integer("blank"))
    } catch {
      throw LpaError("\(place): \(error.oneLine)")
    }
  }

  /// Greedy transcript of logits (frames, vocabulary). Raises LpaError for another width.
  public func text(_ logits: Matrix) throws -> String {
    let spoken = try runs(logits).map { texts[$0.id] }.joined()
    let trimmed = spoken.unicodeScalars.drop(while: isSpace).reversed().drop(while: isSpace)
    return String(String.UnicodeScalarView(trimmed.reversed()))
  }

  /// The words of ``text(_:)`` with their times; `hopSeconds` is the length of one frame.
  ///
  /// A word starts at the first frame of its first token and ends behind the last frame of its
  /// last one. CTC peaks are narrow, so ends lie early by up to a few frames.
  public func words(_ logits: Matrix, hopSeconds: Double) throws -> [Word] {
    var words: [Word] = []
    var spoken: (text: String, start: Int, end: Int)?
    func close() {
      guard let word = spoken else { return }
      words.append(
        Word(
          text: word.text, start: Double(word.start) * hopSeconds,
          end: Double(word.end) * hopSeconds))
      spoken = nil
    }
    for run in try runs(logits) {
      for scalar in texts[run.id].unicodeScalars {
        if isSpace(scalar) {
          close()
        } else {
          var text = spoken?.text ?? ""
          text.unicodeScalars.append(scalar)
          spoken = (text, spoken?.start ?? run.start, run.end)
        }
      }
    }
    close()
    return words
  }

  private struct Run {
    let id: Int
    let start: Int
    var end: Int
  }

  /// Runs of equal best tokens.
  private func runs(_ logits: Matrix) throws -> [Run] {
    guard logits.columns == count else {
      throw LpaError("logits for \(logits.columns) tokens, but the bundle has \(count)")
    }
    var runs: [Run] = []
    for (frame, best) in logits.argmax().enumerated() {
      let id = firstAlike[best]
      if runs.last?.id == id {
        runs[runs.count - 1].end = frame + 1
      } else {
        runs.append(Run(id: id, start: frame, end: frame + 1))
      }
    }
    return runs
  }
}

/// A recognised word, with its first and last moment in seconds.
public struct Word: Sendable, Equatable {
  public let text: String
  public let start: Double
  public let end: Double

  public init(text: String, start: Double, end: Double) {
    self.text = text
    self.start = start
    self.end = end
  }
}
