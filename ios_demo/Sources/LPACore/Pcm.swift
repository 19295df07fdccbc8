import Foundation

/// Decoded sound: a plane of samples per channel, full scale at -1 and 1.
public struct Pcm: Sendable, Equatable {
  public let sampleRate: Int
  public let channels: [[Float]]
  /// What the file's header promises and the file does not hold.
  public let missingSeconds: Double

  public init(sampleRate: Int, channels: [[Float]], missingSeconds: Double = 0) {
    self.sampleRate = sampleRate
    self.channels = channels
    self.missingSeconds = missingSeconds
  }

  /// The mean of all channels.
  public func mono() -> [Float] {
    guard channels.count > 1, let first = channels.first else { return channels.first ?? [] }
    let count = Float(channels.count)
    return first.indices.map { index in channels.reduce(Float(0)) { $0 + $1[index] } / count }
  }

  /// Reads WAV or FLAC by its content, whatever the file is called.
  ///
  /// Raises LpaError for anything else, a damaged file, and more than `maxSeconds` of sound.
  public init(parsing data: Data, maxSeconds: Double = Pcm.maxSeconds) throws {
    guard !data.isEmpty else { throw LpaError("expected audio, found an empty file") }
    if data.starts(with: Array("fLaC".utf8)) {
      self = try FlacDecoder.decode(data, maxSeconds: maxSeconds).pcm
    } else if data.starts(with: Array("RIFF".utf8)) {
      self = try decodeWav(data, maxSeconds: maxSeconds)
    } else {
      throw LpaError("expected WAV or FLAC, found another format; convert it")
    }
  }

  /// Longer recordings are refused before they are decoded: a few megabytes of FLAC can hold days
  /// of digital silence.
  public static let maxSeconds = 4 * 3600.0

  static func requireLength(_ samples: Int, _ rate: Int, _ maxSeconds: Double) throws {
    guard rate > 0 else { throw LpaError("audio with a sample rate of 0 Hz") }
    guard Double(samples) <= maxSeconds * Double(rate) else {
      let hours = (Double(samples) / Double(rate) / 360).rounded() / 10
      throw LpaError("\(hours) hours of audio; at most \(maxSeconds / 3600) are taken, split it")
    }
  }
}

/// Mono speech at a model's sample rate, or an error that says why the recording is no speech.
///
/// Channels are averaged, then the mean is resampled. Raises LpaError, beginning with `name`, for
/// no samples, a single one, silence (every sample the same), samples that are not finite, and
/// channels that cancel each other.
public func waveform(of pcm: Pcm, at sampleRate: Int, name: String) throws -> [Float] {
  let mono = pcm.mono()
  guard let first = mono.first else {
    throw LpaError("\(name): expected audio, found 0 samples; record it again")
  }
  guard mono.count > 1 else {
    throw LpaError("\(name): expected speech, found a single sample; record it again")
  }
  guard mono.allSatisfy(\.isFinite) else {
    throw LpaError("\(name): samples are NaN or infinite; export the recording again")
  }
  // Of the power of the louder channel, less is left than rounding leaves.
  let loudest = pcm.channels.map(variance).max() ?? 0
  guard pcm.channels.count < 2 || loudest == 0 || variance(mono) >= 1e-6 * loudest else {
    throw LpaError(
      "\(name): its channels are of opposite phase and cancel each other, their mean is silent; "
        + "invert one of them, or give one channel alone")
  }
  guard mono.contains(where: { $0 != first }) else {
    throw LpaError("\(name): silent, every sample is \(first); check the recording")
  }
  return try resample(mono, from: pcm.sampleRate, to: sampleRate)
}

private func variance(_ samples: [Float]) -> Double {
  let mean = samples.reduce(0.0) { $0 + Double($1) } / Double(max(samples.count, 1))
  let squares = samples.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
  return squares / Double(max(samples.count, 1))
}

/// Reads a WAV or FLAC file as ``waveform(of:at:name:)`` gives it.
public func loadWaveform(_ file: URL, at sampleRate: Int) throws -> [Float] {
  try loadRecording(file, at: sampleRate).samples
}

/// The same, with the seconds that the file's header promises and the file does not hold.
public func loadRecording(
  _ file: URL, at sampleRate: Int
) throws -> (samples: [Float], missingSeconds: Double) {
  let name = file.lastPathComponent
  var isFolder: ObjCBool = false
  guard FileManager.default.fileExists(atPath: file.path, isDirectory: &isFolder) else {
    throw LpaError("\(file.path): expected an audio file, found no such file; check the path")
  }
  guard !isFolder.boolValue else {
    throw LpaError("\(file.path): expected an audio file, found a folder; check the path")
  }
  do {
    let pcm = try Pcm(parsing: Data(contentsOf: file))
    return (try waveform(of: pcm, at: sampleRate, name: name), pcm.missingSeconds)
  } catch let error as LpaError where error.description.hasPrefix(name) {
    throw error
  } catch {
    throw LpaError("\(name): \(error.oneLine)")
  }
}
