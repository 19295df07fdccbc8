import Foundation

@testable import LPACore

/// The values that tests/ios_demo/vectors.py stores.
enum Vectors {
  static let tests = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent()
  static let repository = tests.deletingLastPathComponent().deletingLastPathComponent()
  static let demo = repository.appendingPathComponent("lpa_export/assets/demo")

  static func file(_ name: String) -> URL { tests.appendingPathComponent("Vectors/\(name)") }
  static func data(_ name: String) throws -> Data { try Data(contentsOf: file(name)) }

  static func json(_ name: String) throws -> JSONValue { try JSONValue(parsing: data(name)) }

  static func entries(_ name: String) throws -> [JSONValue] { try json(name).items }

  /// A copy of the stored bundle in a folder of its own, for tests that damage it.
  static func bundleCopy() throws -> URL {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("lpa-\(UUID().uuidString)")
    try FileManager.default.copyItem(at: file("bundle"), to: folder)
    return folder
  }
}

extension JSONValue {
  var items: [JSONValue] { if case .array(let items) = self { items } else { [] } }
  var text: String? { if case .string(let text) = self { text } else { nil } }
  var whole: Int? { if case .integer(let value) = self { value } else { nil } }
  func string(_ key: String) -> String { self[key]?.text ?? "" }
  func integer(_ key: String) -> Int { self[key]?.whole ?? -1 }
  func list(_ key: String) -> [JSONValue] { self[key]?.items ?? [] }
  var integers: [Int] { items.compactMap(\.whole) }
  var floats: [Float] { items.compactMap(\.figure).map(Float.init) }
}

/// SHA-256 of all planes one behind the other, four bytes a sample, little-endian.
func digest(_ planes: [[Int32]]) -> String { digestOf(planes.map { $0.map { UInt32(bitPattern: $0) } }) }
func digest(_ planes: [[Float]]) -> String { digestOf(planes.map { $0.map(\.bitPattern) }) }

private func digestOf(_ planes: [[UInt32]]) -> String {
  var bytes: [UInt8] = []
  for word in planes.joined() {
    bytes += (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) }
  }
  return Sha256.of(Data(bytes))
}

/// The message of the error that a block raises; nil when it raises none.
func message(_ block: () throws -> Void) -> String? {
  do {
    try block()
    return nil
  } catch {
    return error.oneLine
  }
}
