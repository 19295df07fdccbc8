/// Where Core ML may run a model.
public enum ComputeUnits: String, CaseIterable, Sendable, Identifiable {
  case neuralEngine = "neural-engine"
  case gpu
  case cpu
  case all

  public var id: String { rawValue }

  /// Raises LpaError for a name that is none of them.
  public init(named name: String) throws {
    guard let units = ComputeUnits(rawValue: name) else {
      let known = ComputeUnits.allCases.map(\.rawValue).joined(separator: ", ")
      throw LpaError("unknown compute units '\(name)'; known: \(known)")
    }
    self = units
  }

  public var title: String {
    switch self {
    case .neuralEngine: "CPU and Neural Engine"
    case .gpu: "CPU and GPU"
    case .cpu: "CPU"
    case .all: "All"
    }
  }

  /// iOS refuses work on the GPU to an app in the background; the Neural Engine it allows.
  public var mayUseGPU: Bool { self == .gpu || self == .all }
}
