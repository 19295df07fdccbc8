import Foundation

/// RIFF WAVE: PCM of 8, 16, 24 and 32 bits, float of 32 and 64, plain or "extensible".
///
/// Raises LpaError for another coding and for chunks that do not fit. A data chunk that is cut off
/// (a recording that was interrupted) gives the samples that are there, and how many are missing.
func decodeWav(_ data: Data, maxSeconds: Double) throws -> Pcm {
  let bytes = [UInt8](data)
  guard bytes.count >= 12, bytes[8..<12].elementsEqual("WAVE".utf8) else {
    throw LpaError("wav: RIFF, but no WAVE")
  }
  var offset = 12
  var format: WavFormat?
  while offset + 8 <= bytes.count {
    let size = bytes.little(at: offset + 4, bytes: 4)
    let body = offset + 8
    if bytes[offset..<offset + 4].elementsEqual("fmt ".utf8) {
      format = try WavFormat(bytes, at: body, size: min(size, bytes.count - body))
    } else if bytes[offset..<offset + 4].elementsEqual("data".utf8) {
      guard let format else { throw LpaError("wav: data before its format") }
      let available = min(size, bytes.count - body)
      return try format.decode(
        bytes, at: body, size: available, promised: size, maxSeconds: maxSeconds)
    }
    offset = body + size + size % 2
  }
  throw LpaError("wav: no data chunk, the file is cut off")
}

private struct WavFormat {
  let channels: Int
  let rate: Int
  let bits: Int
  let isFloat: Bool

  init(_ bytes: [UInt8], at offset: Int, size: Int) throws {
    guard size >= 16 else { throw LpaError("wav: the format chunk is cut off") }
    var coding = bytes.little(at: offset, bytes: 2)
    channels = bytes.little(at: offset + 2, bytes: 2)
    rate = bytes.little(at: offset + 4, bytes: 4)
    bits = bytes.little(at: offset + 14, bytes: 2)
    // "Extensible" keeps the coding in the first two bytes of its GUID.
    if coding == 0xfffe, size >= 26 { coding = bytes.little(at: offset + 24, bytes: 2) }
    isFloat = coding == 3
    let widths = isFloat ? [32, 64] : [8, 16, 24, 32]
    guard coding == 1 || coding == 3, widths.contains(bits) else {
      throw LpaError("wav: coding \(coding) of \(bits) bits is not PCM; convert it")
    }
    guard (1...64).contains(channels), rate > 0 else {
      throw LpaError("wav: \(channels) channels at \(rate) Hz are no sound")
    }
  }

  func decode(
    _ bytes: [UInt8], at offset: Int, size: Int, promised: Int, maxSeconds: Double
  ) throws -> Pcm {
    let width = bits / 8
    let frame = width * channels
    let count = size / frame
    try Pcm.requireLength(count, rate, maxSeconds)
    let planes = bytes.withUnsafeBufferPointer { bytes in
      (0..<channels).map { channel in
        (0..<count).map { sample(bytes, at: offset + $0 * frame + channel * width) }
      }
    }
    return Pcm(
      sampleRate: rate, channels: planes,
      missingSeconds: missing(promised: promised, held: size, frame: frame))
  }

  private func missing(promised: Int, held: Int, frame: Int) -> Double {
    // A writer into a pipe cannot know the length, and puts in the largest number that it has.
    guard promised < 1 << 31 - 1 << 16 else { return 0 }
    let seconds = Double(promised / frame - held / frame) / Double(rate)
    return seconds > 0.1 ? seconds : 0
  }

  private func sample(_ bytes: UnsafeBufferPointer<UInt8>, at offset: Int) -> Float {
    var raw: UInt64 = 0
    for index in 0..<bits / 8 { raw |= UInt64(bytes[offset + index]) << (8 * UInt64(index)) }
    switch (isFloat, bits) {
    case (true, 64): return Float(Double(bitPattern: raw))
    case (true, _): return Float(bitPattern: UInt32(raw))
    case (false, 8): return (Float(raw) - 128) / 128  // The only width without sign.
    default:
      let shift = UInt64(64 - bits)
      return Float(Int64(bitPattern: raw << shift) >> Int64(shift)) / Float(UInt64(1) << UInt64(bits - 1))
    }
  }
}
