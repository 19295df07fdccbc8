import Foundation

/// How texts are brought to a vocabulary's letters before words are counted: the rule "lpa-text/2"
/// of the exporter. A word error rate means something only where both texts went through one
/// stated rule.
public struct TextRule: Sendable, Equatable {
  public static let name = "lpa-text"
  public static let version = "2"

  public enum Case: String, Sendable { case upper, lower }

  /// Whether letters and their accents are composed (NFC).
  public let isComposed: Bool
  /// The vocabulary's own apostrophes; every other one becomes the first, where there is one.
  public let apostrophes: [Unicode.Scalar]
  /// The case of the vocabulary's letters; nil where it has both or none.
  public let letterCase: Case?
  /// Letters, in lower case, whose case is left alone.
  public let ambiguous: Set<[Unicode.Scalar]>

  public init(
    isComposed: Bool = true, apostrophes: String = "'", letterCase: Case? = .upper,
    ambiguous: [String] = []
  ) {
    self.isComposed = isComposed
    self.apostrophes = Array(apostrophes.unicodeScalars)
    self.letterCase = letterCase
    self.ambiguous = Set(ambiguous.map { Array($0.unicodeScalars) })
  }

  static let keys: Set = ["name", "parameters", "version"]
  static let parameterKeys: Set = ["ambiguous", "apostrophes", "case", "unicode"]

  /// Raises LpaError for a rule that this program does not know: its figures would be others.
  init(_ fields: Fields) throws {
    let (name, version) = (try fields.string("name"), try fields.string("version"))
    guard (name, version) == (TextRule.name, TextRule.version) else {
      throw LpaError(
        "\(fields.place): texts are normalised by '\(name)/\(version)', this program knows "
          + "'\(TextRule.name)/\(TextRule.version)'; export the bundle again, or update")
    }
    let parameters = try fields.object("parameters", known: TextRule.parameterKeys)
    let form = try parameters.optionalString("unicode")
    guard form == nil || form == "NFC" else { throw parameters.wrong("unicode", "NFC or null") }
    let stated = try parameters.optionalString("case")
    let letterCase = stated.flatMap(Case.init)
    guard stated == nil || letterCase != nil else {
      throw parameters.wrong("case", "upper, lower or null")
    }
    self.init(
      isComposed: form != nil, apostrophes: try parameters.string("apostrophes"),
      letterCase: letterCase, ambiguous: try parameters.strings("ambiguous"))
  }

  /// The text under this rule: single spaces, none at the ends.
  public func callAsFunction(_ text: String) -> String {
    // Typists, phones and e-books write the apostrophe of "don't" in all of these ways.
    let marks: [Unicode.Scalar] = [
      "'", "\u{2019}", "\u{2018}", "\u{02bc}", "\u{2032}", "\u{00b4}", "`", "\u{ff07}",
    ]
    let composed = isComposed ? text.precomposedStringWithCanonicalMapping : text
    var out = String.UnicodeScalarView()
    for scalar in composed.unicodeScalars {
      var letter = scalar
      if let own = apostrophes.first, marks.contains(scalar), !apostrophes.contains(scalar) {
        letter = own
      }
      out.append(cased(letter))
    }
    return joinedWords(String(out))
  }

  /// One letter in the vocabulary's case, where that is one to one.
  private func cased(_ letter: Unicode.Scalar) -> Unicode.Scalar {
    guard let letterCase else { return letter }
    let (mapping, back) = letterCase == .upper ? (upper, lower) : (lower, upper)
    let changed = mapping(letter)
    guard changed.count == 1, changed[0] != letter, !ambiguous.contains(caseless(letter)) else {
      return letter
    }
    // But for the sigma at the end of a word, which is the same letter.
    return back(changed[0]) == [letter] || letter == "\u{03c2}" ? changed[0] : letter
  }

  private func upper(_ letter: Unicode.Scalar) -> [Unicode.Scalar] {
    Array(letter.properties.uppercaseMapping.unicodeScalars)
  }

  private func lower(_ letter: Unicode.Scalar) -> [Unicode.Scalar] {
    Array(letter.properties.lowercaseMapping.unicodeScalars)
  }

  /// What a letter of either case is, in lower case; the dotted capital I counts as an i.
  private func caseless(_ letter: Unicode.Scalar) -> [Unicode.Scalar] {
    guard letter != "\u{0307}" else { return [letter] }
    return upper(letter).flatMap(lower).filter { $0 != "\u{0307}" }
  }
}

/// The words of a text: what stands between white space.
func splitWords(_ text: String) -> [String] {
  text.unicodeScalars.split(whereSeparator: isSpace).map { String(String.UnicodeScalarView($0)) }
}

func joinedWords(_ text: String) -> String { splitWords(text).joined(separator: " ") }

/// White space as Python's `str.split` sees it: Unicode's, and the four separators of ASCII.
func isSpace(_ scalar: Unicode.Scalar) -> Bool {
  scalar.properties.isWhitespace || (0x1c...0x1f).contains(scalar.value)
}
