import LPACore
import LPACoreML

/// Core ML behind the screens.
public struct CoreMLOpener: ModelOpening {
  public init() {}

  public func open(
    _ bundle: LPABundle, units: ComputeUnits, step: @escaping @Sendable (ModelState.Event) -> Void
  ) async throws -> any ModelRunner {
    try await CoreMLRunner(bundle, units: units, step: step)
  }
}
