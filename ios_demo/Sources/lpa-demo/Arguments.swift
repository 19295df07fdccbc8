import Foundation
import LPACore

/// The words behind a command: options with a value, flags, and the rest.
struct Arguments {
  private var options: [String: String] = [:]
  private var flags: Set<String> = []
  private(set) var rest: [String] = []

  /// Raises LpaError for an option that is not known, comes twice or lacks its value.
  init(_ words: [String], options known: Set<String>, flags knownFlags: Set<String>) throws {
    var position = words.startIndex
    while position < words.endIndex {
      let word = words[position]
      position += 1
      guard word.hasPrefix("--") else {
        rest.append(word)
        continue
      }
      if knownFlags.contains(word) {
        flags.insert(word)
      } else if known.contains(word) {
        guard position < words.endIndex else { throw LpaError("\(word) needs a value") }
        guard options.updateValue(words[position], forKey: word) == nil else {
          throw LpaError("\(word) is there twice")
        }
        position += 1
      } else {
        throw LpaError("unknown option \(word); see lpa-demo --help")
      }
    }
  }

  func has(_ flag: String) -> Bool { flags.contains(flag) }
  subscript(option: String) -> String? { options[option] }

  func path(_ option: String) -> URL? { options[option].map { URL(fileURLWithPath: $0) } }

  func requiredPath(_ option: String) throws -> URL {
    guard let path = path(option) else { throw LpaError("\(option) is needed; see lpa-demo --help") }
    return path
  }

  func number(_ option: String, atLeast least: Int, default value: Int) throws -> Int {
    guard let text = options[option] else { return value }
    guard let number = Int(text), number >= least else {
      throw LpaError("\(option) must be a whole number from \(least) on, found '\(text)'")
    }
    return number
  }
}
