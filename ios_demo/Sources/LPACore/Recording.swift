import Foundation

/// What a microphone gave so far. Its rate may change on the way, when headphones are plugged in.
public struct Recording: Sendable, Equatable {
  private var parts: [Part] = []

  private struct Part: Sendable, Equatable {
    let rate: Int
    var samples: [Float]
  }

  public init() {}

  public mutating func append(_ samples: [Float], rate: Int) {
    if parts.last?.rate == rate {
      parts[parts.count - 1].samples += samples
    } else {
      parts.append(Part(rate: rate, samples: samples))
    }
  }

  public var seconds: Double {
    parts.reduce(0) { $0 + Double($1.samples.count) / Double($1.rate) }
  }

  /// All of it at one rate. Raises LpaError for a rate that no microphone has, and no speech.
  public func waveform(at rate: Int) throws -> [Float] {
    let samples = try parts.flatMap { try resample($0.samples, from: $0.rate, to: rate) }
    return try LPACore.waveform(
      of: Pcm(sampleRate: rate, channels: [samples]), at: rate, name: "recording")
  }
}

/// Root mean square of samples as a share of full scale in dB, from 0 (-60 dB and below) to 1.
public func level(_ samples: [Float]) -> Float {
  guard !samples.isEmpty else { return 0 }
  let power = samples.reduce(Float(0)) { $0 + $1 * $1 } / Float(samples.count)
  guard power > 0 else { return 0 }
  return max(0, min(1, 1 + 10 * log10(power) / 60))
}

/// A 16-bit mono WAV file, for players that take files only.
public func wavData(_ samples: [Float], sampleRate: Int) -> Data {
  func little(_ value: Int, _ count: Int) -> Data {
    Data((0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) })
  }
  let size = 2 * samples.count
  var data = Data("RIFF".utf8) + little(36 + size, 4) + Data("WAVEfmt ".utf8) + little(16, 4)
  data += little(1, 2) + little(1, 2) + little(sampleRate, 4) + little(2 * sampleRate, 4)
  data += little(2, 2) + little(16, 2) + Data("data".utf8) + little(size, 4)
  for sample in samples {
    let value = sample.isFinite ? max(-1, min(1, sample)) : 0
    data += little(Int((value * 32_767).rounded()), 2)
  }
  return data
}
