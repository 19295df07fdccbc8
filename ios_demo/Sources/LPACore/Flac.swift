import Foundation

/// What a FLAC file holds, as the whole numbers that went in.
public struct FlacAudio: Sendable, Equatable {
  public let sampleRate: Int
  public let bitsPerSample: Int
  public let channels: [[Int32]]

  /// Full scale at -1 and 1.
  public var pcm: Pcm {
    let scale = 1 / Float(UInt64(1) << UInt64(bitsPerSample - 1))
    return Pcm(sampleRate: sampleRate, channels: channels.map { $0.map { Float($0) * scale } })
  }
}

/// A FLAC decoder (RFC 9639): every kind of subframe, up to 32 bits, every checksum verified.
///
/// The stream is not trusted. What does not fit raises LpaError: a wrong checksum, an end in the
/// middle of a frame, reserved codes, a format that changes on the way.
public struct FlacDecoder {
  private var bits: BitReader
  private let rate: Int
  private let depth: Int
  private let channelCount: Int
  private var planes: [[Int32]]

  public static func decode(_ data: Data, maxSeconds: Double = Pcm.maxSeconds) throws -> FlacAudio {
    let bytes = [UInt8](data)
    return try bytes.withUnsafeBufferPointer { buffer in
      var decoder = try FlacDecoder(BitReader(buffer), maxSeconds: maxSeconds)
      return try decoder.all(maxSeconds: maxSeconds)
    }
  }

  private var total: Int

  private init(_ reader: BitReader, maxSeconds: Double) throws {
    bits = reader
    guard try bits.read(32) == 0x664c_6143 else { throw LpaError("flac: no FLAC") }
    var isLast = false
    var info: (rate: Int, channels: Int, depth: Int, total: Int)?
    while !isLast {
      isLast = try bits.read(1) == 1
      let kind = try bits.read(7)
      let size = try bits.read(24)
      let end = bits.position + 8 * size
      if kind == 0 {
        guard size >= 34 else { throw LpaError("flac: the stream's description is cut off") }
        try bits.skip(16 + 16 + 24 + 24)
        info = (
          try bits.read(20), try bits.read(3) + 1, try bits.read(5) + 1, try bits.read(36)
        )
      }
      try bits.skip(end - bits.position)
    }
    guard let info, info.rate > 0, info.depth >= 4 else {
      throw LpaError("flac: no description of the stream")
    }
    (rate, channelCount, depth, total) = info
    try Pcm.requireLength(total, rate, maxSeconds)
    planes = Array(repeating: [], count: channelCount)
  }

  private mutating func all(maxSeconds: Double) throws -> FlacAudio {
    // A total of 0 means that the encoder did not know it: then the file's end is the end.
    while total == 0 ? !bits.isAtEnd : planes[0].count < total {
      try frame()
      try Pcm.requireLength(planes[0].count, rate, maxSeconds)
    }
    guard total == 0 || planes[0].count == total else {
      throw LpaError("flac: \(planes[0].count) samples, \(total) were promised")
    }
    return FlacAudio(sampleRate: rate, bitsPerSample: depth, channels: planes)
  }

  private mutating func frame() throws {
    let start = bits.position / 8
    guard try bits.read(15) == 0x7ffc else {
      throw LpaError("flac: no frame where one should begin, after \(planes[0].count) samples")
    }
    try bits.skip(1)
    let sizeCode = try bits.read(4)
    let rateCode = try bits.read(4)
    let channelCode = try bits.read(4)
    let depthCode = try bits.read(3)
    try bits.skip(1)
    try skipNumber()
    let block = try blockSize(sizeCode)
    switch rateCode {
    case 12: try bits.skip(8)
    case 13, 14: try bits.skip(16)
    case 15: throw LpaError("flac: a reserved sample rate")
    default: break
    }
    let headerEnd = bits.position / 8
    guard try bits.read(8) == Int(crc8(bits.bytes[start..<headerEnd])) else {
      throw LpaError("flac: a frame's header is damaged (CRC)")
    }
    try requireSame(channelCode: channelCode, depthCode: depthCode)
    var channels: [[Int]] = []
    for channel in 0..<channelCount {
      let isSide = (channelCode, channel) == (8, 1) || (channelCode, channel) == (9, 0)
        || (channelCode, channel) == (10, 1)
      channels.append(try bits.subframe(block, depth: depth + (isSide ? 1 : 0)))
    }
    try bits.skip((8 - bits.position % 8) % 8)
    let end = bits.position / 8
    guard try bits.read(16) == Int(crc16(bits.bytes[start..<end])) else {
      throw LpaError("flac: a frame is damaged (CRC) after \(planes[0].count) samples")
    }
    recombine(&channels, channelCode)
    for (channel, samples) in channels.enumerated() {
      planes[channel] += samples.map { Int32(truncatingIfNeeded: $0) }
    }
  }

  private func requireSame(channelCode: Int, depthCode: Int) throws {
    let channels = channelCode < 8 ? channelCode + 1 : 2
    let depths = [depth, 8, 12, -1, 16, 20, 24, 32]
    guard channelCode <= 10, channels == channelCount, depths[depthCode] == depth else {
      throw LpaError("flac: a frame of another format than the stream's")
    }
  }

  /// The frame's or sample's number, in the manner of UTF-8 of up to seven bytes.
  private mutating func skipNumber() throws {
    var ones = 0
    while ones < 8, try bits.read(1) == 1 { ones += 1 }
    guard ones != 1, ones < 8 else { throw LpaError("flac: a frame's number is damaged") }
    try bits.skip(7 - ones + 8 * max(0, ones - 1))
  }

  private mutating func blockSize(_ code: Int) throws -> Int {
    switch code {
    case 0: throw LpaError("flac: a reserved block size")
    case 1: return 192
    case 2...5: return 576 << (code - 2)
    case 6: return try bits.read(8) + 1
    case 7: return try bits.read(16) + 1
    default: return 256 << (code - 8)
    }
  }

  /// Left and right again, from left/side, side/right or mid/side.
  private func recombine(_ channels: inout [[Int]], _ code: Int) {
    guard (8...10).contains(code) else { return }
    for index in channels[0].indices {
      let (first, second) = (channels[0][index], channels[1][index])
      switch code {
      case 8: channels[1][index] = first &- second
      case 9: channels[0][index] = first &+ second
      default:
        let mid = first << 1 | second & 1
        channels[0][index] = (mid &+ second) >> 1
        channels[1][index] = (mid &- second) >> 1
      }
    }
  }
}

/// Bits of a buffer, the highest of each byte first. Reading beyond the end raises LpaError.
private struct BitReader {
  let bytes: UnsafeBufferPointer<UInt8>
  private(set) var position = 0

  init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  var isAtEnd: Bool { position >= 8 * bytes.count }

  mutating func skip(_ count: Int) throws {
    guard count >= 0, position + count <= 8 * bytes.count else { throw BitReader.cutOff }
    position += count
  }

  /// Up to 36 bits, without sign.
  mutating func read(_ count: Int) throws -> Int {
    guard position + count <= 8 * bytes.count else { throw BitReader.cutOff }
    var value = 0
    var left = count
    while left > 0 {
      let free = 8 - position & 7
      let taken = min(free, left)
      let piece = Int(bytes[position >> 3]) >> (free - taken) & (1 << taken - 1)
      value = value << taken | piece
      position += taken
      left -= taken
    }
    return value
  }

  /// Two's complement of so many bits.
  mutating func signed(_ count: Int) throws -> Int {
    guard count > 0 else { return 0 }
    let value = try read(count)
    return value >= 1 << (count - 1) ? value - 1 << count : value
  }

  /// How many zeros stand before the next one.
  mutating func unary() throws -> Int {
    var zeros = 0
    while true {
      guard !isAtEnd else { throw BitReader.cutOff }
      let rest = bytes[position >> 3] << UInt8(position & 7)
      let run = rest.leadingZeroBitCount
      if run < 8 {
        zeros += run
        position += run + 1
        return zeros
      }
      zeros += 8 - position & 7
      position += 8 - position & 7
    }
  }

  mutating func subframe(_ count: Int, depth fullDepth: Int) throws -> [Int] {
    guard try read(1) == 0 else { throw LpaError("flac: a subframe begins with a one") }
    let kind = try read(6)
    let wasted = try read(1) == 1 ? try unary() + 1 : 0
    let depth = fullDepth - wasted
    guard depth > 0 else { throw LpaError("flac: more wasted bits than bits") }
    var samples: [Int]
    switch kind {
    case 0: samples = Array(repeating: try signed(depth), count: count)
    case 1: samples = try (0..<count).map { _ in try signed(depth) }
    case 8...12: samples = try fixed(count, order: kind - 8, depth: depth)
    case 32...63: samples = try linear(count, order: kind - 31, depth: depth)
    default: throw LpaError("flac: a reserved kind of subframe, \(kind)")
    }
    if wasted > 0 { for index in samples.indices { samples[index] <<= wasted } }
    return samples
  }

  private mutating func fixed(_ count: Int, order: Int, depth: Int) throws -> [Int] {
    let coefficients = [[], [1], [2, -1], [3, -3, 1], [4, -6, 4, -1]][order]
    return try predicted(count, coefficients, depth: depth) { _ in (coefficients, 0) }
  }

  private mutating func linear(_ count: Int, order: Int, depth: Int) throws -> [Int] {
    try predicted(count, Array(repeating: 0, count: order), depth: depth) { reader in
      let precision = try reader.read(4) + 1
      let shift = try reader.signed(5)
      guard precision < 16, shift >= 0 else { throw LpaError("flac: a reserved predictor") }
      return (try (0..<order).map { _ in try reader.signed(precision) }, shift)
    }
  }

  /// First samples as they are, then the predictor (read behind them), then what it misses by.
  private mutating func predicted(
    _ count: Int, _ like: [Int], depth: Int,
    predictor: (inout BitReader) throws -> (coefficients: [Int], shift: Int)
  ) throws -> [Int] {
    let order = like.count
    guard order <= count else { throw LpaError("flac: a predictor longer than its block") }
    var samples = try (0..<order).map { _ in try signed(depth) }
    let (coefficients, shift) = try predictor(&self)
    samples.reserveCapacity(count)
    try residuals(count, order: order, into: &samples)
    samples.withUnsafeMutableBufferPointer { samples in
      coefficients.withUnsafeBufferPointer { coefficients in
        for index in order..<count {
          // Wrapping: damaged numbers may grow without bound; the frame's checksum comes later.
          var sum = 0
          for lag in 0..<order { sum &+= coefficients[lag] &* samples[index - 1 - lag] }
          samples[index] &+= sum >> shift
        }
      }
    }
    return samples
  }

  private mutating func residuals(_ count: Int, order: Int, into out: inout [Int]) throws {
    let method = try read(2)
    guard method < 2 else { throw LpaError("flac: a reserved coding of residuals") }
    let width = method == 0 ? 4 : 5
    let partitions = 1 << (try read(4))
    guard count % partitions == 0, count / partitions >= order else {
      throw LpaError("flac: \(partitions) partitions do not fit a block of \(count)")
    }
    for partition in 0..<partitions {
      let size = count / partitions - (partition == 0 ? order : 0)
      let parameter = try read(width)
      if parameter == 1 << width - 1 {
        let raw = try read(5)
        for _ in 0..<size { out.append(try signed(raw)) }
        continue
      }
      for _ in 0..<size {
        let quotient = try unary()
        let folded = quotient << parameter | (try read(parameter))
        out.append(folded & 1 == 0 ? folded >> 1 : -(folded >> 1) - 1)
      }
    }
  }

  static let cutOff = LpaError("flac: the file is cut off")
}

/// Polynomial x^8 + x^2 + x + 1.
private func crc8(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) -> UInt8 {
  bytes.reduce(0) { crc, byte in
    (0..<8).reduce(crc ^ byte) { value, _ in value & 0x80 == 0 ? value << 1 : value << 1 ^ 0x07 }
  }
}

/// Polynomial x^16 + x^15 + x^2 + 1.
private func crc16(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) -> UInt16 {
  bytes.reduce(0) { crc, byte in crc << 8 ^ crc16Table[Int(UInt8(crc >> 8) ^ byte)] }
}

private let crc16Table: [UInt16] = (0..<256).map { index in
  (0..<8).reduce(UInt16(index) << 8) { value, _ in
    value & 0x8000 == 0 ? value << 1 : value << 1 ^ 0x8005
  }
}
