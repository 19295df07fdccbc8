import Foundation
import LPACore

/// The ONNX model of a bundle in ONNX Runtime on the CPU: any length, all taps.
public final class OnnxRunner: ModelRunner {
  public let runtime: String
  public let maxSamples: Int? = nil
  public let reachableTaps: Set<String>

  private let manifest: Manifest
  private let folder: URL
  private let model: Data
  private let threads: Int
  private let session: OnnxSession
  private let tensors: [String: String]

  /// Raises LpaError for a bundle of another target and a model that does not open.
  public init(_ bundle: LPABundle, threads: Int = 1) throws {
    try bundle.require(targets: ["onnx"])
    manifest = bundle.manifest
    folder = bundle.folder
    guard let name = manifest.artifacts.first else {
      throw LpaError("manifest.json: no artifact listed; export the bundle again")
    }
    self.threads = threads
    model = try bundle.data(name)
    session = try OnnxSession(model, folder: bundle.folder, threads: threads)
    let present = Set(try session.inputNames + session.outputNames)
    guard present.isSuperset(of: ["waveform", "lengths", "logits"]) else {
      throw LpaError("\(name): no input or output of the manifest's names in the graph")
    }
    runtime = "ONNX Runtime \(session.version), CPU"
    tensors = Dictionary(manifest.taps.map { ($0.name, $0.tensor) }, uniquingKeysWith: { $1 })
    reachableTaps = Set(tensors.keys)
  }

  public func run(_ waveform: [Float], taps: Set<String>) async throws -> Inference {
    try manifest.requireFrames(waveform.count, atMost: nil)
    let names = taps.intersection(reachableTaps).subtracting(["logits"]).sorted()
    let session = try names.isEmpty ? session : tapped(names)
    let found = try session.run(
      manifest.prepared(waveform), outputs: ["logits"] + names.compactMap { tensors[$0] })
    return Inference(
      logits: found[0], taps: Dictionary(zip(names, found.dropFirst()), uniquingKeysWith: { $1 }))
  }

  /// A session that has the taps as outputs. Made anew each time: a replay asks a few times only.
  private func tapped(_ names: [String]) throws -> OnnxSession {
    try OnnxSession(
      withOutputs(model, names.compactMap { tensors[$0] }), folder: folder, threads: threads)
  }
}
