/// Typed access to the members of a JSON object; each error names the file and the member.
struct Fields {
  let members: [String: JSONValue]
  let place: String

  /// `known`: the members that there may be; nil: any.
  init(_ value: JSONValue?, place: String, known: Set<String>? = nil) throws {
    guard case .object(let members)? = value else {
      throw LpaError("\(place) must be an object; export the bundle again")
    }
    if let known, let stranger = members.keys.sorted().first(where: { !known.contains($0) }) {
      throw LpaError("\(place): unknown member '\(stranger)'; export the bundle again")
    }
    self.members = members
    self.place = place
  }

  func object(_ key: String, known: Set<String>? = nil) throws -> Fields {
    try Fields(members[key], place: "\(place): '\(key)'", known: known)
  }

  func string(_ key: String) throws -> String {
    guard case .string(let text)? = members[key] else { throw wrong(key, "a string") }
    return text
  }

  /// Nil for null or a member that is not there.
  func optionalString(_ key: String) throws -> String? {
    switch members[key] {
    case nil, .null?: nil
    default: try string(key)
    }
  }

  /// 64 hexadecimal digits in lower case.
  func digest(_ key: String) throws -> String {
    let text = try string(key)
    guard text.utf8.count == 64, text.allSatisfy({ "0123456789abcdef".contains($0) }) else {
      throw wrong(key, "64 hexadecimal digits")
    }
    return text
  }

  func bool(_ key: String, default value: Bool) throws -> Bool {
    switch members[key] {
    case nil: return value
    case .bool(let found)?: return found
    default: throw wrong(key, "true or false")
    }
  }

  func integer(_ key: String, atLeast least: Int = 0) throws -> Int {
    guard case .integer(let value)? = members[key], value >= least else {
      throw wrong(key, "a whole number from \(least) on")
    }
    return value
  }

  func number(_ key: String) throws -> Double {
    guard let value = try optionalNumber(key) else { throw wrong(key, "a number") }
    return value
  }

  /// Nil for null or a member that is not there.
  func optionalNumber(_ key: String) throws -> Double? {
    switch members[key] {
    case nil, .null?: return nil
    case .integer(let value)?: return Double(value)
    case .number(let value)?: return value
    default: throw wrong(key, "a number or null")
    }
  }

  func list(_ key: String) throws -> [JSONValue] {
    guard case .array(let items)? = members[key] else { throw wrong(key, "a list") }
    return items
  }

  func objects(_ key: String, known: Set<String>? = nil) throws -> [Fields] {
    try list(key).map { try Fields($0, place: "\(place): an entry of '\(key)'", known: known) }
  }

  func strings(_ key: String) throws -> [String] {
    try list(key).map {
      guard case .string(let text) = $0 else { throw wrong(key, "a list of strings") }
      return text
    }
  }

  func integers(_ key: String, atLeast least: Int) throws -> [Int] {
    try list(key).map {
      guard case .integer(let value) = $0, value >= least else {
        throw wrong(key, "a list of whole numbers from \(least) on")
      }
      return value
    }
  }

  func wrong(_ key: String, _ expected: String) -> LpaError {
    LpaError("\(place): '\(key)' must be \(expected); export the bundle again")
  }
}
