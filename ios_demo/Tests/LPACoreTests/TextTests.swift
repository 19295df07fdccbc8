import Foundation
import Testing

@testable import LPACore

@Suite struct Decoding {
  @Test func textsAndWordTimesAreTheExporters() throws {
    let json = try Vectors.json("decoding.json")
    let vocabulary = try Self.vocabulary(json["tokens"])
    #expect(vocabulary.count == 29 && json.list("clips").count == 48)
    for clip in json.list("clips") { try compare(clip, vocabulary) }
  }

  @Test func everyKindOfVocabularyIsDecodedAsTheExporterDoes() throws {
    let others = try Vectors.json("decoding.json").list("others")
    #expect(others.count == 15)
    for entry in others {
      try compare(#require(entry["frames"]), Self.vocabulary(entry["tokens"]))
    }
  }

  private func compare(_ clip: JSONValue, _ vocabulary: CTCVocabulary) throws {
    let logits = try oneHot(clip["best"]?.integers ?? [], width: vocabulary.count)
    #expect(Array(try vocabulary.text(logits).unicodeScalars) == Array(clip.string("text").unicodeScalars))
    let found = try vocabulary.words(logits, hopSeconds: 0.02)
    let expected = clip.list("words").map(\.items)
    #expect(found.map(\.text) == expected.compactMap { $0.first?.text })
    for (word, times) in zip(found, expected) {
      #expect(abs(word.start - (times[1].figure ?? .nan)) < 1e-6)
      #expect(abs(word.end - (times[2].figure ?? .nan)) < 1e-6)
    }
  }

  private static func vocabulary(_ tokens: JSONValue?) throws -> CTCVocabulary {
    try CTCVocabulary(parsing: Data((tokens ?? .null).rendered.utf8), place: "tokens.json")
  }

  @Test func aNaNIsNoBestToken() throws {
    let matrix = try Matrix(rows: 2, columns: 3, values: [.nan, 1, 0, .nan, .nan, .nan])
    #expect(matrix.argmax() == [1, 0])
  }

  @Test func anotherWidthIsRefused() throws {
    let vocabulary = try CTCVocabulary(tokens: ["<pad>", "A"], texts: ["", "A"], blank: 0)
    #expect(message { _ = try vocabulary.text(oneHot([0], width: 3)) }?.contains("3 tokens") == true)
  }

  @Test func halfASurrogatePairIsATokenLikeAnyOther() throws {
    let tokens = #"{"blank": 0, "tokens": [{"token": "", "text": ""}, "#
      + #"{"token": "\ud800", "text": "\ud800"}], "spelling": "characters", "word_delimiter": null}"#
    let vocabulary = try CTCVocabulary(parsing: Data(tokens.utf8), place: "tokens.json")
    #expect(try vocabulary.text(oneHot([1, 1, 0, 1], width: 2)) == "\u{fffd}\u{fffd}")
  }

  @Test(arguments: [
    (#"{"blank": 1, "tokens": [{"token": "A", "text": "A"}]}"#, "blank's id 1"),
    (#"{"blank": 0, "tokens": [{"token": "A"}]}"#, "'text'"),
    (#"{"blank": 0, "tokens": [{"token": "A", "text": "A", "more": 1}]}"#, "unknown member 'more'"),
    (#"{"blank": 0, "tokens": "A"}"#, "'tokens'"),
    ("A\nB\n", "expected a value"),
  ])
  func otherTokensAreRefused(text: String, problem: String) {
    let found = message {
      _ = try CTCVocabulary(parsing: Data(text.utf8), place: "tokens.json")
    }
    #expect(found?.hasPrefix("tokens.json: ") == true && found?.contains(problem) == true)
  }

  private func oneHot(_ best: [Int], width: Int) throws -> Matrix {
    var values = [Float](repeating: 0, count: best.count * width)
    for (row, column) in best.enumerated() { values[row * width + column] = 1 }
    return try Matrix(rows: best.count, columns: width, values: values)
  }
}

@Suite struct WordErrorRates {
  private let plain = TextRule(isComposed: false, apostrophes: "", letterCase: nil)

  @Test func countsAreThoseOfJiwer() throws {
    let entries = try Vectors.entries("word-errors.json")
    #expect(entries.count > 200)
    for entry in entries {
      let (text, heard) = (entry.string("reference"), entry.string("hypothesis"))
      // The texts as they are: jiwer was not given a rule. A further utterance, because a WER needs one reference word.
      let found = try WordErrors(texts: [text, "x"], transcripts: [heard, "x"], rule: plain)
      let counts = [found.substitutions, found.deletions, found.insertions]
      let kinds = ["substitutions", "deletions", "insertions"]
      #expect(counts == kinds.map(entry.integer), "'\(text)' / '\(heard)'")
      #expect(found.perUtterance == [found.errors, 0])
    }
  }

  @Test func aRateIsErrorsByWordsInPercent() throws {
    let found = try WordErrors(texts: ["a b c", "d"], transcripts: ["A x", "d e"], rule: TextRule())
    #expect(found.words == 4)
    #expect(found.wer == 75)
  }

  @Test func noWordsAtAllAreRefused() {
    #expect(message { _ = try WordErrors(texts: [" "], transcripts: ["x"], rule: plain) } != nil)
    #expect(message { _ = try WordErrors(texts: ["a"], transcripts: [], rule: plain) } != nil)
  }

  @Test func textsAreNormalisedAsTheExporterDoes() throws {
    let entries = try Vectors.entries("normaliser.json")
    #expect(entries.count > 80)
    for entry in entries {
      let rule = try TextRule(Fields(entry["normaliser"], place: "rule", known: TextRule.keys))
      let found = rule(entry.string("text"))
      let expected = entry.string("normalised")
      #expect(Array(found.unicodeScalars) == Array(expected.unicodeScalars), "\(rule) \(expected)")
    }
  }

  @Test func aRuleThatIsNotKnownIsRefused() {
    let stated = JSONValue.object(["name": .string("lpa-text"), "version": .string("3")])
    let found = message { _ = try TextRule(Fields(stated, place: "rule")) }
    #expect(found?.contains("'lpa-text/3', this program knows 'lpa-text/2'") == true)
  }
}

@Suite struct Subtitles {
  private let transcript = Transcript(
    text: "ONE TWO THREE",
    words: [
      Word(text: "ONE", start: 0.1, end: 0.4), Word(text: "TWO", start: 0.5, end: 0.9),
      Word(text: "THREE", start: 3661.5, end: 3662.0404),
    ], duration: 4000, seams: [2])

  @Test func linesEndAtPauses() {
    #expect(
      transcript.srt() == """
        1
        00:00:00,100 --> 00:00:00,900
        ONE TWO

        2
        01:01:01,500 --> 01:01:02,040
        THREE

        """)
  }

  @Test func linesAreNoLongerThanAsked() {
    #expect(transcript.srt(characters: 5).contains("ONE\n\n2\n"))
  }

  @Test func jsonIsThatOfLpaTranscribeWithSeams() {
    let json = transcript.json(file: "a.wav")
    #expect(json.string("file") == "a.wav" && json.string("text") == "ONE TWO THREE")
    #expect(json.list("words").last?["end"]?.figure == 3662.04)
    #expect(json.list("seams").map(\.figure) == [2])
  }
}
