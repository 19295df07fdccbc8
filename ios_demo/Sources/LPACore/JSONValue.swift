import Foundation

/// JSON as a value, read strictly: a repeated key, text behind the end, NaN and nesting beyond
/// ``maxDepth`` are refused, which Foundation's decoder lets pass or crashes on.
public enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  static let maxDepth = 64

  /// Raises LpaError, with the byte where reading stopped, for anything but one JSON value.
  public init(parsing data: Data) throws {
    guard let text = String(validatingUTF8Data: data) else { throw LpaError("not UTF-8") }
    var parser = JSONParser(bytes: Array(text.utf8))
    self = try parser.document()
  }

  /// A finite number as it is, an infinite one or NaN as the text that the reports of
  /// lpa-validate hold in its place ("inf", "-inf", "nan"): JSON has no such number.
  public init(figure value: Double) {
    if value.isFinite {
      self = .number(value)
    } else {
      self = .string(value.isNaN ? "nan" : value > 0 ? "inf" : "-inf")
    }
  }

  /// The number written by ``init(figure:)``, or nil for another value.
  public var figure: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .string("inf"): .infinity
    case .string("-inf"): -.infinity
    case .string("nan"): .nan
    default: nil
    }
  }

  public subscript(key: String) -> JSONValue? {
    if case .object(let members) = self { members[key] } else { nil }
  }

  /// Text with sorted keys, a member a line, ending in a line feed: the same value, the same bytes.
  public var rendered: String {
    var out = ""
    write(to: &out, indent: 0)
    return out + "\n"
  }

  private func write(to out: inout String, indent: Int) {
    switch self {
    case .null: out += "null"
    case .bool(let value): out += value ? "true" : "false"
    case .integer(let value): out += String(value)
    case .number(let value): out += value == value.rounded() && abs(value) < 1e15
      ? String(Int(value)) + ".0" : String(value)
    case .string(let value): out += JSONValue.quoted(value)
    case .array(let items) where items.isEmpty: out += "[]"
    case .object(let members) where members.isEmpty: out += "{}"
    case .array(let items):
      out += "["
      for (index, item) in items.enumerated() {
        out += (index == 0 ? "\n" : ",\n") + String(repeating: " ", count: indent + 1)
        item.write(to: &out, indent: indent + 1)
      }
      out += "\n" + String(repeating: " ", count: indent) + "]"
    case .object(let members):
      out += "{"
      for (index, key) in members.keys.sorted(by: JSONValue.byScalars).enumerated() {
        out += (index == 0 ? "\n" : ",\n") + String(repeating: " ", count: indent + 1)
        out += JSONValue.quoted(key) + ": "
        (members[key] ?? .null).write(to: &out, indent: indent + 1)
      }
      out += "\n" + String(repeating: " ", count: indent) + "}"
    }
  }

  /// Order of code points, as Python sorts; Swift's own compares what looks alike as equal.
  static func byScalars(_ first: String, _ second: String) -> Bool {
    first.unicodeScalars.lexicographicallyPrecedes(second.unicodeScalars)
  }

  /// A JSON string. With `asciiOnly` other characters are escaped too, as Python does by default.
  static func quoted(_ value: String, asciiOnly: Bool = false) -> String {
    var out = "\""
    for unit in value.unicodeScalars {
      switch unit {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case "\u{8}": out += "\\b"
      case "\u{c}": out += "\\f"
      case _ where unit.value < 0x20 || asciiOnly && unit.value > 0x7e:
        for code in String(unit).utf16 { out += "\\u" + hexadecimal(UInt64(code), digits: 4) }
      default: out.unicodeScalars.append(unit)
      }
    }
    return out + "\""
  }
}

extension String {
  /// Nil for bytes that are no UTF-8, which `String(decoding:as:)` would replace silently.
  init?(validatingUTF8Data data: Data) {
    guard let text = String(data: data, encoding: .utf8) else { return nil }
    self = text.first == "\u{feff}" ? String(text.dropFirst()) : text
  }
}

/// Lower-case hexadecimal digits of `value`, with zeros in front.
func hexadecimal(_ value: UInt64, digits: Int) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}

private struct JSONParser {
  let bytes: [UInt8]
  var position = 0

  mutating func document() throws -> JSONValue {
    let value = try self.value(depth: 0)
    skipSpace()
    guard position == bytes.count else { throw problem("text behind the end") }
    return value
  }

  private mutating func value(depth: Int) throws -> JSONValue {
    guard depth < JSONValue.maxDepth else { throw problem("nested too deeply") }
    skipSpace()
    switch peek {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  private mutating func object(depth: Int) throws -> JSONValue {
    var members: [String: JSONValue] = [:]
    position += 1
    skipSpace()
    if take(UInt8(ascii: "}")) { return .object(members) }
    repeat {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else { throw problem("expected a key") }
      let key = try string()
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw problem("expected ':'") }
      guard members[key] == nil else { throw problem("key '\(key)' is there twice") }
      members[key] = try value(depth: depth + 1)
      skipSpace()
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "}")) else { throw problem("expected ',' or '}'") }
    return .object(members)
  }

  private mutating func array(depth: Int) throws -> JSONValue {
    var items: [JSONValue] = []
    position += 1
    skipSpace()
    if take(UInt8(ascii: "]")) { return .array(items) }
    repeat {
      items.append(try value(depth: depth + 1))
      skipSpace()
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "]")) else { throw problem("expected ',' or ']'") }
    return .array(items)
  }

  private mutating func string() throws -> String {
    position += 1
    var out: [UInt8] = []
    while true {
      guard let byte = peek else { throw problem("a string without end") }
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: out, as: UTF8.self)
      case UInt8(ascii: "\\"): out += Array(String(try escape()).utf8)
      case 0..<0x20: throw problem("a control character in a string")
      default: out.append(byte)
      }
    }
  }

  private mutating func escape() throws -> Character {
    guard let byte = peek else { throw problem("a string without end") }
    position += 1
    let plain: [UInt8: Character] = [
      UInt8(ascii: "\""): "\"", UInt8(ascii: "\\"): "\\", UInt8(ascii: "/"): "/",
      UInt8(ascii: "b"): "\u{8}", UInt8(ascii: "f"): "\u{c}", UInt8(ascii: "n"): "\n",
      UInt8(ascii: "r"): "\r", UInt8(ascii: "t"): "\t",
    ]
    if let character = plain[byte] { return character }
    guard byte == UInt8(ascii: "u") else { throw problem("an unknown escape") }
    var code = try fourDigits()
    if (0xd800..<0xdc00).contains(code), bytes[position...].starts(with: "\\u".utf8) {
      let behind = position
      position += 2
      let low = try fourDigits()
      if (0xdc00..<0xe000).contains(low) {
        code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
      } else {
        position = behind
      }
    }
    // Half a pair is a token like any other to Python; Swift's strings cannot hold it.
    return Character(Unicode.Scalar(code) ?? "\u{fffd}")
  }

  private mutating func fourDigits() throws -> UInt32 {
    guard position + 4 <= bytes.count,
      let code = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
    else { throw problem("expected four hexadecimal digits") }
    position += 4
    return code
  }

  private mutating func number() throws -> JSONValue {
    let start = position
    _ = take(UInt8(ascii: "-"))
    let leading = peek
    let whole = digits()
    guard whole > 0, leading != UInt8(ascii: "0") || whole == 1 else {
      position = start
      throw problem("expected a value")
    }
    var isInteger = true
    if take(UInt8(ascii: ".")) {
      isInteger = false
      guard digits() > 0 else { throw problem("a number without digits behind its point") }
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      isInteger = false
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      guard digits() > 0 else { throw problem("a number without exponent") }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let value = Int(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite else { throw problem("a number too large") }
    return .number(value)
  }

  private mutating func digits() -> Int {
    let start = position
    while let byte = peek, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
    return position - start
  }

  private mutating func word(_ text: String, _ value: JSONValue) throws -> JSONValue {
    guard bytes[position...].starts(with: text.utf8) else { throw problem("expected a value") }
    position += text.utf8.count
    return value
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard peek == byte else { return false }
    position += 1
    return true
  }

  private mutating func skipSpace() {
    while let byte = peek, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
      position += 1
    }
  }

  private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

  private func problem(_ what: String) -> LpaError { LpaError("\(what) (byte \(position))") }
}
