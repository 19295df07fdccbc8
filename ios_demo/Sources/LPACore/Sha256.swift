import Foundation

#if canImport(CryptoKit)
  import CryptoKit
#endif

/// SHA-256 (FIPS 180-4), fed piece by piece. Apple's own where there is one, else the plain one:
/// Linux has none without a further package.
public struct Sha256 {
  #if canImport(CryptoKit)
    private var hash = CryptoKit.SHA256()
    public mutating func update(_ data: Data) { hash.update(data: data) }
    /// 64 lower-case hexadecimal digits.
    public func hexadecimalDigest() -> String { hexadecimalText(Array(hash.finalize())) }
  #else
    private var hash = PlainSha256()
    public mutating func update(_ data: Data) { hash.update(data) }
    /// 64 lower-case hexadecimal digits.
    public func hexadecimalDigest() -> String { hexadecimalText(hash.digest()) }
  #endif

  public init() {}

  public static func of(_ data: Data) -> String {
    var hash = Sha256()
    hash.update(data)
    return hash.hexadecimalDigest()
  }

  /// Of a file, which is read in pieces. Raises LpaError when it cannot be read.
  public static func ofFile(_ file: URL) throws -> String {
    var hash = Sha256()
    do {
      let handle = try FileHandle(forReadingFrom: file)
      defer { try? handle.close() }
      while let piece = try handle.read(upToCount: 1 << 20), !piece.isEmpty { hash.update(piece) }
    } catch {
      throw LpaError("\(file.lastPathComponent): cannot be read")
    }
    return hash.hexadecimalDigest()
  }
}

private func hexadecimalText(_ bytes: [UInt8]) -> String {
  bytes.map { hexadecimal(UInt64($0), digits: 2) }.joined()
}

struct PlainSha256 {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a,
    0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  private var pending: [UInt8] = []
  private var length: UInt64 = 0

  mutating func update(_ data: Data) {
    length += UInt64(data.count)
    pending += data
    let whole = pending.count / 64 * 64
    pending.withUnsafeBufferPointer { bytes in
      for start in stride(from: 0, to: whole, by: 64) {
        PlainSha256.mix(UnsafeBufferPointer(rebasing: bytes[start..<start + 64]), into: &state)
      }
    }
    pending.removeFirst(whole)
  }

  func digest() -> [UInt8] {
    var last = self
    var padding: [UInt8] = [0x80]
    padding += [UInt8](repeating: 0, count: (119 - pending.count % 64) % 64)
    padding += (0..<8).map { UInt8(truncatingIfNeeded: (length * 8) >> (56 - 8 * UInt64($0))) }
    last.update(Data(padding))
    return last.state.flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * UInt32($0))) }
    }
  }

  private static func mix(_ block: UnsafeBufferPointer<UInt8>, into state: inout [UInt32]) {
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { w in
      for i in 0..<16 {
        w[i] = UInt32(block[4 * i]) << 24 | UInt32(block[4 * i + 1]) << 16
          | UInt32(block[4 * i + 2]) << 8 | UInt32(block[4 * i + 3])
      }
      for i in 16..<64 {
        let s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3
        let s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10
        w[i] = w[i - 16] &+ s0 &+ w[i - 7] &+ s1
      }
      var (a, b, c, d) = (state[0], state[1], state[2], state[3])
      var (e, f, g, h) = (state[4], state[5], state[6], state[7])
      roundConstants.withUnsafeBufferPointer { k in
        for i in 0..<64 {
          let s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)
          let first = h &+ s1 &+ ((e & f) ^ (~e & g)) &+ k[i] &+ w[i]
          let s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)
          let second = s0 &+ ((a & b) ^ (a & c) ^ (b & c))
          (h, g, f, e) = (g, f, e, d &+ first)
          (d, c, b, a) = (c, b, a, first &+ second)
        }
      }
      for (index, value) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= value }
    }
  }

  private static func rotated(_ word: UInt32, _ bits: UInt32) -> UInt32 {
    word >> bits | word << (32 - bits)
  }

  // The fractional parts of the cube roots of the first 64 primes.
  private static let roundConstants: [UInt32] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4,
    0xab1c_5ed5, 0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe,
    0x9bdc_06a7, 0xc19b_f174, 0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f,
    0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7,
    0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967, 0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc,
    0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85, 0xa2bf_e8a1, 0xa81a_664b,
    0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070, 0x19a4_c116,
    0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7,
    0xc671_78f2,
  ]
}
