import Foundation

/// Converts samples between two rates with a band-limited filter: what lies above the lower
/// Nyquist frequency is removed, not folded back into the speech.
///
/// A windowed sinc (Kaiser) with the band edges of soxr's HQ setting: flat to 91.4 % of the lower
/// Nyquist frequency, 120 dB down from it on. The same rate gives the same samples. Raises
/// LpaError for rates that no recording has.
public func resample(_ samples: [Float], from source: Int, to target: Int) throws -> [Float] {
  guard source != target else { return samples }
  guard (1000...1_000_000).contains(source), (1000...1_000_000).contains(target) else {
    throw LpaError("a sample rate of \(source) Hz cannot be converted to \(target) Hz")
  }
  let divisor = greatestCommonDivisor(source, target)
  let (up, down) = (target / divisor, source / divisor)
  let filter = SincFilter(up: up, down: down)
  let count = (samples.count * up + down / 2) / down
  var out = [Float](repeating: 0, count: count)
  let taps = 2 * filter.reach
  samples.withUnsafeBufferPointer { samples in
    for index in 0..<count {
      // Output `index` lies `phase / up` of a sample behind the input sample `whole`.
      let (whole, phase) = (index * down / up, index * down % up)
      let start = whole - filter.reach + 1
      filter.phase(phase).withUnsafeBufferPointer { weights in
        var sum = 0.0
        for tap in max(0, -start)..<max(0, min(taps, samples.count - start)) {
          sum += Double(samples[start + tap]) * weights[tap]
        }
        out[index] = Float(sum)
      }
    }
  }
  return out
}

private func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
  b == 0 ? a : greatestCommonDivisor(b, a % b)
}

/// The weights of each phase of a rational conversion by `up` / `down`, made when first asked for.
private final class SincFilter {
  let reach: Int
  private let up: Int
  private let cutoff: Double
  private let beta: Double
  private var phases: [[Double]?]

  init(up: Int, down: Int) {
    self.up = up
    let (pass, stop, rejection) = (0.9136, 1.0, 120.4)
    let scale = min(1, Double(up) / Double(down))
    cutoff = scale * (pass + stop) / 2
    // Kaiser's formulas: shape by rejection, length by the width of the transition.
    beta = 0.1102 * (rejection - 8.7)
    let transition = Double.pi * (stop - pass) * scale
    reach = Int(((rejection - 8) / (2.285 * transition) / 2).rounded(.up))
    phases = Array(repeating: nil, count: up)
  }

  /// Weights of the `2 * reach` samples around an output `phase / up` behind a sample.
  func phase(_ phase: Int) -> [Double] {
    if let known = phases[phase] { return known }
    let fraction = Double(phase) / Double(up)
    let weights = (0..<2 * reach).map { tap in
      let distance = Double(tap - reach + 1) - fraction
      let x = distance / Double(reach)
      guard abs(x) < 1 else { return 0.0 }
      let window = bessel(beta * (1 - x * x).squareRoot()) / bessel(beta)
      return cutoff * sinc(cutoff * distance) * window
    }
    // Each phase alone sums to 1 within the rejection; made exact, so that a constant stays one.
    let sum = weights.reduce(0, +)
    let normalised = weights.map { $0 / sum }
    phases[phase] = normalised
    return normalised
  }

  private func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(.pi * x) / (.pi * x) }

  /// The modified Bessel function of the first kind of order 0, by its power series.
  private func bessel(_ x: Double) -> Double {
    var term = 1.0
    var sum = 1.0
    var k = 1.0
    while term > 1e-17 * sum {
      term *= (x / (2 * k)) * (x / (2 * k))
      sum += term
      k += 1
    }
    return sum
  }
}
