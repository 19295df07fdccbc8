import Foundation

/// An array of numpy: values in C order.
public struct NpyArray: Sendable, Equatable {
  public let shape: [Int]
  public let values: [Float]

  /// Reads a .npy file (versions 1 to 3) of little-endian float32 in C order, which is what golden
  /// clips are. Raises LpaError for anything else: no pickles, no other types.
  public init(parsing data: Data) throws {
    let bytes = [UInt8](data)
    guard bytes.count >= 12, bytes[0] == 0x93, bytes[1..<6].elementsEqual("NUMPY".utf8) else {
      throw LpaError("npy: no array of numpy")
    }
    let isShort = bytes[6] == 1
    guard (1...3).contains(bytes[6]) else { throw LpaError("npy: unknown version \(bytes[6])") }
    let size = isShort ? bytes.little(at: 8, bytes: 2) : bytes.little(at: 8, bytes: 4)
    let start = isShort ? 10 : 12
    guard start + size <= bytes.count else { throw LpaError("npy: the header is cut off") }
    let header = String(decoding: bytes[start..<start + size], as: UTF8.self)
    guard header.contains("'descr': '<f4'") else { throw LpaError("npy: expected type <f4") }
    guard header.contains("'fortran_order': False") else { throw LpaError("npy: expected C order") }
    shape = try NpyArray.shape(in: header)
    var count = 1
    for length in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: length)
      guard !overflow else { throw LpaError("npy: shape \(shape) is impossible") }
      count = product
    }
    let body = bytes.count - start - size
    guard body % 4 == 0, body / 4 == count else {
      throw LpaError("npy: \(body) bytes for shape \(shape)")
    }
    values = (0..<count).map { index in
      Float(bitPattern: UInt32(truncatingIfNeeded: bytes.little(at: start + size + 4 * index, bytes: 4)))
    }
  }

  /// Raises LpaError for an array that is not (rows, columns).
  public func matrix() throws -> Matrix {
    guard shape.count == 2 else { throw LpaError("npy: expected two axes, found \(shape)") }
    return try Matrix(rows: shape[0], columns: shape[1], values: values)
  }

  private static func shape(in header: String) throws -> [Int] {
    guard let open = header.firstIndex(of: "("), let close = header.firstIndex(of: ")"), open < close
    else { throw LpaError("npy: no shape") }
    return try header[header.index(after: open)..<close].split(separator: ",").map { part in
      guard let length = Int(part.filter { $0 != " " }), length >= 0 else {
        throw LpaError("npy: no shape")
      }
      return length
    }
  }
}

extension Array where Element == UInt8 {
  /// An unsigned little-endian number; the caller has checked that its bytes are there.
  func little(at offset: Int, bytes count: Int) -> Int {
    (0..<count).reduce(0) { $0 | Int(self[offset + $1]) << (8 * $1) }
  }
}
