@preconcurrency import CoreML
import Foundation
import LPACore

/// The packages of a bundle in Core ML: a front end of any length, and encoders of fixed lengths
/// (functions of one package, or a package each), opened when a recording first needs them.
///
/// The only file of the package that imports CoreML. On Linux it is type-checked against
/// hand-written declarations; run it is on Apple's systems only.
public actor CoreMLRunner: ModelRunner {
  public nonisolated let runtime: String
  public nonisolated let units: ComputeUnits?
  public nonisolated let maxSamples: Int?
  public nonisolated let reachableTaps: Set<String>
  public nonisolated let windows: [WindowSection]

  private let bundle: LPABundle
  private let chosen: ComputeUnits
  private let programs: CoreMLPrograms
  private let compiled: [String: URL]
  private let frontEnd: MLModel?
  private var encoders: [Int: MLModel] = [:]
  private var tapped: MLModel?
  /// Tap to output, windows' edges among them.
  private let tensors: [String: String]

  /// Compiles what was not compiled before, then opens the front end and the smallest encoder.
  ///
  /// `step` is told `.compiled`, then `.loaded`. Raises LpaError for a bundle of another target,
  /// and with Core ML's own reason when it refuses a package.
  public init(
    _ bundle: LPABundle, units: ComputeUnits,
    step: @Sendable (ModelState.Event) -> Void = { _ in }
  ) async throws {
    try bundle.require(targets: ["coreml"])
    self.bundle = bundle
    chosen = units
    self.units = units
    programs = try CoreMLPrograms(bundle.manifest)
    runtime = "Core ML, \(units.title)"
    maxSamples = programs.maxSamples
    compiled = try await Self.compile(bundle)
    step(.compiled)
    guard let smallest = programs.buckets.first else { throw LpaError("no encoder in the bundle") }
    if let program = programs.frontEnd {
      // The front end takes any length, which only the CPU and the GPU do.
      frontEnd = try await Self.load(program, compiled, units: .cpu, programs)
    } else {
      frontEnd = nil
    }
    let encoder = try await Self.load(smallest.program, compiled, units: units, programs)
    encoders = [smallest.frames: encoder]
    var tensors = Dictionary(
      bundle.manifest.taps.map { ($0.name, $0.tensor) }, uniquingKeysWith: { $1 })
    if programs.taps != nil {
      windows = programs.windows
      for section in windows { tensors[section.tap] = section.edges }
      reachableTaps = Set(bundle.manifest.taps.map(\.name))
    } else {
      let outputs = Self.outputs(of: encoder).union(frontEnd.map(Self.outputs) ?? [])
      windows = []
      reachableTaps = Set(bundle.manifest.taps.filter { outputs.contains($0.tensor) }.map(\.name))
    }
    self.tensors = tensors
    step(.loaded)
  }

  public func run(_ waveform: [Float], taps: Set<String>) async throws -> Inference {
    let manifest = bundle.manifest
    try manifest.requireFrames(waveform.count, atMost: maxSamples)
    let frames = manifest.frames.frames(waveform.count, inside: true)
    // A length adapter behind the encoder makes fewer frames than there are inside.
    let heard = manifest.frames.frames(waveform.count)
    let bucket = try bucket(for: frames, tapped: !taps.subtracting(["logits"]).isEmpty)
    let speech = manifest.prepared(waveform)
    var outputs: [String: MLMultiArray] = [:]
    let given: [String: MLMultiArray]
    let encoder = try await encoder(bucket)
    if let frontEnd {
      let input = try Self.array(speech, [1, speech.count], like: frontEnd, "waveform")
      outputs = try await Self.predict(frontEnd, ["waveform": input])
      given = try Self.encoderInputs(outputs["projected"], frames, bucket, encoder)
    } else {
      let missing = bucket.samples - speech.count
      let whole = speech + [Float](repeating: 0, count: missing)
      given = [
        "waveform": try Self.array(whole, [1, whole.count], like: encoder, "waveform"),
        "samples": try Self.array([Float(speech.count)], [1], like: encoder, "samples"),
      ]
    }
    outputs.merge(try await Self.predict(encoder, given)) { $1 }
    guard let logits = outputs["logits"] else { throw LpaError("the encoder gives no logits") }
    var values: [String: Matrix] = [:]
    for (tap, tensor) in tensors where taps.contains(tap) {
      guard let array = outputs[tensor] else { continue }
      values[tap] = try Self.framesFirst(array, tap == "logits" ? heard : frames)
    }
    return Inference(logits: try Self.framesFirst(logits, heard), taps: values)
  }

  /// The smallest that holds the frames; where taps are asked for, the one that has them.
  private func bucket(for frames: Int, tapped: Bool) throws -> CoreMLPrograms.Bucket {
    guard tapped, let taps = programs.taps else { return try programs.bucket(for: frames) }
    guard frames <= taps.frames else {
      throw LpaError(
        "\(frames) frames; taps and windows are there for recordings of up to \(taps.frames)")
    }
    return taps
  }

  private func encoder(_ bucket: CoreMLPrograms.Bucket) async throws -> MLModel {
    if bucket == programs.taps {
      if let tapped { return tapped }
      let model = try await Self.load(bucket.program, compiled, units: chosen, programs)
      tapped = model
      return model
    }
    if let known = encoders[bucket.frames] { return known }
    let model = try await Self.load(bucket.program, compiled, units: chosen, programs)
    encoders[bucket.frames] = model
    return model
  }

  private static func compile(_ bundle: LPABundle) async throws -> [String: URL] {
    let cache = CompiledModels.ofThisSystem(bundle: bundle)
    var places: [String: URL] = [:]
    for package in bundle.manifest.artifacts {
      if let kept = cache.kept(package) {
        places[package] = kept
        continue
      }
      do {
        let fresh = try await MLModel.compileModel(at: bundle.file(package))
        places[package] = try cache.keep(fresh, as: package)
      } catch {
        throw LpaError("\(package): Core ML cannot compile it (\(error.oneLine))")
      }
    }
    return places
  }

  private static func load(
    _ program: CoreMLPrograms.Program, _ compiled: [String: URL], units: ComputeUnits,
    _ programs: CoreMLPrograms
  ) async throws -> MLModel {
    guard let place = compiled[program.package] else {
      throw LpaError("\(program.package): not among the bundle's packages")
    }
    let configuration = MLModelConfiguration()
    configuration.computeUnits = units.coreML
    if program.function != "main" {
      guard #available(iOS 18, macOS 15, *) else {
        throw LpaError(
          "\(program.package) has several functions, which takes iOS 18 or macOS 15; export with "
            + "deployment_target: iOS17")
      }
      configuration.functionName = program.function
    }
    do {
      return try await MLModel.load(contentsOf: place, configuration: configuration)
    } catch {
      throw LpaError(
        "\(program.package)/\(program.function): Core ML cannot open it on \(units.title) "
          + "(\(error.oneLine))")
    }
  }

  private static func predict(
    _ model: MLModel, _ inputs: sending [String: MLMultiArray]
  ) async throws -> sending [String: MLMultiArray] {
    let features = try MLDictionaryFeatureProvider(
      dictionary: inputs.mapValues { MLFeatureValue(multiArray: $0) })
    do {
      let found = try await model.prediction(from: features)
      var arrays: [String: MLMultiArray] = [:]
      for name in found.featureNames {
        arrays[name] = found.featureValue(for: name)?.multiArrayValue
      }
      return arrays
    } catch {
      throw LpaError("Core ML broke while running (\(error.oneLine))")
    }
  }

  private static func outputs(of model: MLModel) -> Set<String> {
    Set(model.modelDescription.outputDescriptionsByName.keys)
  }

  /// The front end's frames in the encoder's bucket, and the mask.
  private static func encoderInputs(
    _ projected: MLMultiArray?, _ frames: Int, _ bucket: CoreMLPrograms.Bucket, _ encoder: MLModel
  ) throws -> [String: MLMultiArray] {
    guard let projected, projected.shape.count == 4, projected.shape[3].intValue == frames else {
      throw LpaError("the front end gives no 'projected' of \(frames) frames")
    }
    let width = projected.shape[1].intValue
    let scalars = MLShapedArray<Float>(converting: projected).scalars
    let filled = try padded(scalars, width: width, frames: frames, bucket: bucket.frames)
    return [
      "projected": try array(
        filled.values, [1, width, 1, bucket.frames], like: encoder, "projected"),
      "mask": try array(filled.mask, [1, 1, 1, bucket.frames], like: encoder, "mask"),
    ]
  }

  /// Values in an array of the type that the model declares for this input.
  private static func array(
    _ values: [Float], _ shape: [Int], like model: MLModel, _ input: String
  ) throws -> MLMultiArray {
    let constraint = model.modelDescription.inputDescriptionsByName[input]?.multiArrayConstraint
    guard let type = constraint?.dataType, type == .float16 || type == .float32 else {
      throw LpaError("the model has no input '\(input)' of float16 or float32")
    }
    let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: type)
    let lengths = shape
    array.withUnsafeMutableBytes { bytes, strides in
      var position = [Int](repeating: 0, count: lengths.count)
      for value in values {
        // By strides: Core ML may pad rows in memory.
        let offset = zip(position, strides).reduce(0) { $0 + $1.0 * $1.1 }
        if type == .float16 {
          bytes.storeBytes(of: halfBits(value), toByteOffset: 2 * offset, as: UInt16.self)
        } else {
          bytes.storeBytes(of: value, toByteOffset: 4 * offset, as: Float.self)
        }
        var axis = lengths.count - 1
        while axis >= 0 {
          position[axis] += 1
          if position[axis] < lengths[axis] { break }
          position[axis] = 0
          axis -= 1
        }
      }
    }
    return array
  }

  /// (1, C, 1, T) as (frames, C).
  private static func framesFirst(_ array: MLMultiArray, _ frames: Int) throws -> Matrix {
    let shape = array.shape.map(\.intValue)
    guard shape.count == 4, shape[0] == 1, shape[2] == 1, shape[3] >= frames else {
      throw LpaError("expected (1, width, 1, frames), the model gives \(shape)")
    }
    let (width, length) = (shape[1], shape[3])
    let scalars = MLShapedArray<Float>(converting: array).scalars
    var values = [Float](repeating: 0, count: frames * width)
    for channel in 0..<width {
      for frame in 0..<frames { values[frame * width + channel] = scalars[channel * length + frame] }
    }
    return try Matrix(rows: frames, columns: width, values: values)
  }
}

extension ComputeUnits {
  fileprivate var coreML: MLComputeUnits {
    switch self {
    case .neuralEngine: .cpuAndNeuralEngine
    case .gpu: .cpuAndGPU
    case .cpu: .cpuOnly
    case .all: .all
    }
  }
}
