/// The bits of the nearest float16 (IEEE 754 binary16, ties to even). Swift's own Float16 is not
/// there on every Mac.
public func halfBits(_ value: Float) -> UInt16 {
  let bits = value.bitPattern
  let sign = UInt16(truncatingIfNeeded: bits >> 16) & 0x8000
  let magnitude = bits & 0x7fff_ffff
  if magnitude > 0x7f80_0000 { return sign | 0x7e00 }  // NaN
  if magnitude >= 0x477f_f000 { return sign | 0x7c00 }  // Rounds beyond the largest.
  if magnitude < 0x3880_0000 {
    // Subnormal: whole multiples of 2^-24; the product is exact, so one rounding happens.
    let steps = (Float(bitPattern: magnitude) * 16_777_216).rounded(.toNearestOrEven)
    return sign | UInt16(steps)
  }
  let rounded = magnitude + 0xfff + (magnitude >> 13 & 1)
  return sign | UInt16((rounded - 0x3800_0000) >> 13)
}
