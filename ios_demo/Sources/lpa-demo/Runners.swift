import Foundation
import LPACore

#if canImport(LPAOnnx)
  import LPAOnnx
#else
  import LPACoreML
#endif

/// The runner of this system: ONNX Runtime on Linux, Core ML on macOS.
enum Runners {
  #if canImport(LPAOnnx)
    static let target = "onnx"
  #else
    static let target = "coreml"
  #endif

  /// Raises LpaError for a bundle of another target or with files that are not as exported.
  static func openBundle(_ folder: URL) async throws -> LPABundle {
    let bundle = try LPABundle(folder)
    try bundle.require(targets: [target])
    #if canImport(LPAOnnx)
      // Loaded while the files are hashed; the end of this function waits for it.
      async let _ = OnnxLibrary.prepare()
    #endif
    try bundle.requireSound()
    return bundle
  }

  static func open(_ bundle: LPABundle, threads: Int, units: String) async throws -> any ModelRunner {
    #if canImport(LPAOnnx)
      guard units == defaultUnits else { throw LpaError("--units goes with Core ML bundles") }
      return try OnnxRunner(bundle, threads: threads)
    #else
      return try await CoreMLRunner(bundle, units: ComputeUnits(named: units))
    #endif
  }

  static let defaultUnits = ComputeUnits.neuralEngine.rawValue
}
