/// The programs of a Core ML bundle, as the manifest's `runtime` and `buckets` list them.
public struct CoreMLPrograms: Sendable, Equatable {
  /// A function of a package.
  public struct Program: Sendable, Equatable {
    public let package: String
    public let function: String
  }

  /// An encoder of a fixed number of frames, for waveforms of up to so many samples.
  public struct Bucket: Sendable, Equatable {
    public let program: Program
    public let frames: Int
    public let samples: Int
  }

  /// Nil: the encoders take waveforms themselves.
  public let frontEnd: Program?
  /// By ascending frames, at least one.
  public let buckets: [Bucket]
  /// A program like the smallest bucket's whose taps are outputs, where the bundle has one.
  public let taps: Bucket?
  public let windows: [WindowSection]

  static let keys: Set = [
    "deployment_target", "encoders", "frontend", "layout", "taps", "windows",
  ]
  static let placeKeys: Set = ["function", "package"]

  /// Raises LpaError when the manifest does not say what a runner needs.
  public init(_ manifest: Manifest) throws {
    let fields = try Fields(
      manifest.runtime, place: "\(Manifest.fileName): 'runtime'", known: Self.keys)
    func program(_ entry: Fields) throws -> Program {
      let package = try entry.string("package")
      guard manifest.artifacts.contains(package) else {
        throw entry.wrong("package", "one of the artifacts")
      }
      return Program(package: package, function: try entry.string("function"))
    }
    switch fields.members["frontend"] {
    case nil, .null?: frontEnd = nil
    default: frontEnd = try program(fields.object("frontend", known: Self.placeKeys))
    }
    let encoders = try fields.objects("encoders", known: Self.placeKeys).map(program)
    let lengths = manifest.buckets ?? []
    guard !encoders.isEmpty, encoders.count == lengths.count else {
      throw fields.wrong("encoders", "one for each of the manifest's buckets")
    }
    buckets = zip(encoders, lengths).map {
      Bucket(program: $0, frames: $1.frames, samples: $1.samples)
    }
    switch fields.members["taps"] {
    case nil, .null?: taps = nil
    default:
      taps = Bucket(
        program: try program(fields.object("taps", known: Self.placeKeys)),
        frames: lengths[0].frames, samples: lengths[0].samples)
    }
    windows = try fields.members["windows"] == nil
      ? [] : fields.objects("windows", known: WindowSection.keys).map(WindowSection.init)
  }

  public var maxSamples: Int { buckets.last?.samples ?? 0 }

  /// The smallest bucket that holds so many frames. Raises LpaError when none does.
  public func bucket(for frames: Int) throws -> Bucket {
    guard let bucket = buckets.first(where: { $0.frames >= frames }) else {
      throw LpaError(
        "no bucket for \(frames) frames, the largest has \(buckets.last?.frames ?? 0)")
    }
    return bucket
  }
}

/// Columns of (width, frames) in zeros of (width, bucket), and the mask that tells them apart.
///
/// Raises LpaError when the values are no such array, or the bucket is smaller.
public func padded(
  _ values: [Float], width: Int, frames: Int, bucket: Int
) throws -> (values: [Float], mask: [Float]) {
  guard values.count == width * frames, frames <= bucket else {
    throw LpaError("\(values.count) values are not (\(width), \(frames)) for a bucket of \(bucket)")
  }
  var out = [Float](repeating: 0, count: width * bucket)
  for channel in 0..<width {
    out.replaceSubrange(
      channel * bucket..<channel * bucket + frames,
      with: values[channel * frames..<(channel + 1) * frames])
  }
  let mask = (0..<bucket).map { Float($0 < frames ? 1 : 0) }
  return (out, mask)
}
