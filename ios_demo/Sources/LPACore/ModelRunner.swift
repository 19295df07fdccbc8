import Foundation

/// What a runner gives for one waveform: logits (valid frames, vocabulary) and the taps asked for,
/// those that it can reach.
public struct Inference: Sendable {
  public let logits: Matrix
  public let taps: [String: Matrix]

  public init(logits: Matrix, taps: [String: Matrix] = [:]) {
    self.logits = logits
    self.taps = taps
  }
}

/// A bundle's model, loaded. Whatever executes it, screens and commands see only this.
public protocol ModelRunner: Sendable {
  /// What executes it and on which units, as reports name it: "Core ML, cpuAndNeuralEngine".
  var runtime: String { get }
  /// Nil where the runtime has none to choose from.
  var units: ComputeUnits? { get }
  /// Samples of the longest waveform that it takes in one pass; nil: any length.
  var maxSamples: Int? { get }
  /// Taps whose values this runner can give.
  var reachableTaps: Set<String> { get }
  /// LPA layers whose windows this runner can give; their taps are asked for like others.
  var windows: [WindowSection] { get }

  /// Runs one waveform (samples at the bundle's rate, full scale at -1 and 1).
  ///
  /// Raises LpaError for a waveform that is too short for one frame or too long.
  func run(_ waveform: [Float], taps: Set<String>) async throws -> Inference
}

extension ModelRunner {
  public var windows: [WindowSection] { [] }
  public var units: ComputeUnits? { nil }

  public func logits(_ waveform: [Float]) async throws -> Matrix {
    try await run(waveform, taps: []).logits
  }
}

extension Manifest {
  /// Raises LpaError when so many samples give no frame, or more than a runner takes.
  public func requireFrames(_ samples: Int, atMost maxSamples: Int?) throws {
    guard samples >= frames.receptiveField else {
      let seconds = Double(frames.receptiveField) / Double(sampleRate)
      throw LpaError(
        "\(samples) samples of \(sampleRate) Hz audio, the model takes \(frames.receptiveField) "
          + String(format: "(%.3f s) at least; give a longer recording", seconds))
    }
    guard let maxSamples, samples > maxSamples else { return }
    let (found, most) = (Double(samples) / Double(sampleRate), Double(maxSamples) / Double(sampleRate))
    throw LpaError(
      String(format: "%.1f s of audio, this bundle takes %.1f s at most in one pass", found, most))
  }

  /// A waveform as the model wants it, where the caller must normalise it.
  public func prepared(_ waveform: [Float]) -> [Float] {
    guard normalisation.place == .app, normalisation.kind != .none, !waveform.isEmpty else {
      return waveform
    }
    let count = Double(waveform.count)
    let mean = waveform.reduce(0.0) { $0 + Double($1) } / count
    let variance = waveform.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / count
    let scale = 1 / (variance + normalisation.epsilon).squareRoot()
    return waveform.map { Float((Double($0) - mean) * scale) }
  }
}
