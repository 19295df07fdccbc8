/// How many frames the convolutions make of so many samples: repeated
/// floor((n + 2 padding - kernel) / stride) + 1.
public struct FrameArithmetic: Sendable, Equatable {
  public let kernels: [Int]
  public let strides: [Int]
  public let paddings: [Int]
  /// Samples from one frame to the next.
  public let hop: Int
  /// The fewest samples that give a frame.
  public let receptiveField: Int

  static let keys: Set = ["hop", "kernels", "paddings", "receptive_field", "strides"]

  /// Raises LpaError for numbers that do not belong together.
  init(_ fields: Fields) throws {
    kernels = try fields.integers("kernels", atLeast: 1)
    strides = try fields.integers("strides", atLeast: 1)
    hop = try fields.integer("hop", atLeast: 1)
    receptiveField = try fields.integer("receptive_field", atLeast: 1)
    paddings = try fields.members["paddings"] == nil
      ? kernels.map { _ in 0 } : fields.integers("paddings", atLeast: 0)
    guard kernels.count == strides.count, kernels.count == paddings.count else {
      throw fields.wrong("strides", "as many as kernels and paddings")
    }
    guard strides.reduce(1, { $0 &* $1 }) == hop else {
      throw fields.wrong("hop", "the product of the strides")
    }
    guard frames(receptiveField) == 1, frames(receptiveField - 1) == 0 else {
      throw fields.wrong("receptive_field", "the fewest samples that give a frame")
    }
  }

  /// Convolutions without padding.
  public init(kernels: [Int], strides: [Int]) {
    self.kernels = kernels
    self.strides = strides
    paddings = kernels.map { _ in 0 }
    hop = strides.reduce(1, *)
    receptiveField = zip(kernels, strides).reversed().reduce(1) { ($0 - 1) * $1.1 + $1.0 }
  }

  /// Frames of so many samples; 0 when they are too few. `inside`: those that the encoder sees;
  /// only convolutions behind it have a padding.
  public func frames(_ samples: Int, inside: Bool = false) -> Int {
    kernels.indices.prefix { !inside || paddings[$0] == 0 }.reduce(samples) { count, layer in
      let room = count + 2 * paddings[layer] - kernels[layer]
      return count <= 0 || room < 0 ? 0 : room / strides[layer] + 1
    }
  }
}
