import Foundation

/// Peak signal-to-noise ratio in dB: 20 log10(max |expected| / rms error). Infinite where both are
/// equal, NaN as soon as either holds a NaN or an infinity.
///
/// Raises LpaError for arrays of different lengths or without elements.
public func psnr(_ found: [Float], expected: [Float]) throws -> Double {
  guard found.count == expected.count, !found.isEmpty else {
    throw LpaError("\(found.count) values cannot be compared with \(expected.count)")
  }
  guard nonFinite(found) == 0, nonFinite(expected) == 0 else { return .nan }
  var (error, peak) = (0.0, 0.0)
  for (value, reference) in zip(found, expected) {
    let difference = Double(value) - Double(reference)
    error += difference * difference
    peak = max(peak, abs(Double(reference)))
  }
  guard error > 0 else { return .infinity }
  return 20 * log10(peak / (error / Double(found.count)).squareRoot())
}

/// How many values are NaN or infinite.
public func nonFinite(_ values: [Float]) -> Int { values.count { !$0.isFinite } }

/// The largest absolute difference of two arrays of one length; NaN where a value is NaN.
public func maxDifference(_ found: [Float], _ expected: [Float]) -> Double {
  var largest = 0.0
  for (value, reference) in zip(found, expected) {
    let difference = abs(Double(value) - Double(reference))
    if difference.isNaN { return .nan }
    largest = max(largest, difference)
  }
  return largest
}

/// How many rows of two matrices of one shape have the same best column.
public func agreeingRows(_ found: Matrix, _ expected: Matrix) -> Int {
  zip(found.argmax(), expected.argmax()).count { $0 == $1 }
}

/// The value below which `share` of the sorted values lie, linear between neighbours.
public func percentile(_ values: [Double], _ share: Double) -> Double {
  let sorted = values.sorted()
  guard let last = sorted.last else { return .nan }
  let position = share * Double(sorted.count - 1)
  let index = Int(position)
  guard index + 1 < sorted.count else { return last }
  return sorted[index] + (sorted[index + 1] - sorted[index]) * (position - Double(index))
}
