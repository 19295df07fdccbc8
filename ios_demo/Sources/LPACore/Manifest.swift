import Foundation

/// What a bundle says of itself in manifest.json, as lpa_export/formats/manifest.schema.json has it.
///
/// Read as strictly as the exporter reads it: unknown members, members that are there twice, values
/// of another type and names that lead out of the folder are refused.
public struct Manifest: Sendable, Equatable {
  public static let newestVersion = 2
  public static let fileName = "manifest.json"

  public let model: String
  public let target: String
  /// How numbers are kept: "fp16", "int8" and so on.
  public let scheme: String
  public let sampleRate: Int
  public let frames: FrameArithmetic
  public let normalisation: Normalisation
  public let vocabulary: Vocabulary
  /// The rule that texts go through before words are counted.
  public let textRule: TextRule
  public let artifacts: [String]
  public let taps: [Tap]
  /// Fixed lengths, ascending; nil: any length.
  public let buckets: [Bucket]?
  public let checkpointName: String
  public let checkpointSha256: String
  public let gates: Gates
  public let files: [String: File]
  /// What the target's own runner reads.
  public let runtime: JSONValue

  /// Raises LpaError, in one line beginning with the file's name, for a manifest that is damaged,
  /// of another version, or names files outside its folder.
  public init(parsing data: Data) throws {
    let place = Manifest.fileName
    guard data.count <= 16 << 20 else { throw LpaError("\(place): too large for a manifest") }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: data)
    } catch {
      throw LpaError("\(place): not JSON, \(error.oneLine); export the bundle again")
    }
    try Manifest.requireVersion(Fields(json, place: place))
    let fields = try Fields(json, place: place, known: Manifest.keys)
    model = try fields.string("model")
    target = try fields.string("target")
    scheme = try fields.object("scheme", known: Manifest.schemeKeys).string("name")
    sampleRate = try fields.integer("sample_rate", atLeast: 1)
    frames = try FrameArithmetic(fields.object("frames", known: FrameArithmetic.keys))
    normalisation = try Normalisation(fields.object("normalisation", known: Normalisation.keys))
    vocabulary = try Vocabulary(fields.object("vocabulary", known: Vocabulary.keys))
    textRule = try TextRule(fields.object("normaliser", known: TextRule.keys))
    gates = try Gates(fields.object("gates", known: Gates.keys))
    files = try Manifest.files(fields.object("files"))
    artifacts = try fields.strings("artifacts")
    taps = try fields.objects("taps", known: Tap.keys).map(Tap.init)
    buckets = try Manifest.buckets(fields)
    let checkpoint = try fields.object("checkpoint", known: Manifest.checkpointKeys)
    checkpointName = try checkpoint.string("name")
    checkpointSha256 = try checkpoint.digest("sha256")
    runtime = .object(try fields.object("runtime").members)
    guard !artifacts.isEmpty else { throw fields.wrong("artifacts", "a list with an artifact") }
    for name in artifacts where filesOf(artifact: name).isEmpty {
      throw LpaError("\(place): artifact '\(name)' is not among 'files'; export the bundle again")
    }
  }

  /// The listed files of an artifact: the file of that name, or all files in that folder.
  public func filesOf(artifact: String) -> [String] {
    files.keys.filter { $0 == artifact || $0.hasPrefix(artifact + "/") }.sorted()
  }

  // The members of each object, for the reader and for the test against the schema.
  static let keys: Set = [
    "artifacts", "buckets", "checkpoint", "compression", "files", "frames", "front_end", "gates",
    "inputs", "lowering", "model", "normalisation", "normaliser", "outputs", "runtime",
    "sample_rate", "schema_version", "scheme", "selfcheck", "sizes", "taps", "target", "tools",
    "vocabulary",
  ]
  static let schemeKeys: Set = ["activations", "compute", "name", "weights"]
  static let checkpointKeys: Set = [
    "family", "figures", "language", "layers", "name", "replaced_layers", "sha256", "shipped",
  ]

  private static func requireVersion(_ fields: Fields) throws {
    guard case .integer(let version)? = fields.members["schema_version"], version >= 1 else {
      throw LpaError("\(fileName): no 'schema_version', not a manifest of lpa-export")
    }
    guard version <= newestVersion else {
      throw LpaError(
        "\(fileName): schema version \(version) is newer than \(newestVersion); update this app")
    }
    guard version == newestVersion else {
      throw LpaError(
        "\(fileName): schema version \(version) is older than \(newestVersion); export it again")
    }
  }

  private static func files(_ fields: Fields) throws -> [String: File] {
    var files: [String: File] = [:]
    for name in fields.members.keys {
      try requireInside(name)
      let entry = try fields.object(name, known: File.keys)
      files[name] = File(bytes: try entry.integer("bytes"), sha256: try entry.digest("sha256"))
    }
    return files
  }

  private static func buckets(_ fields: Fields) throws -> [Bucket]? {
    if case .null? = fields.members["buckets"] { return nil }
    let buckets = try fields.objects("buckets", known: Bucket.keys).map(Bucket.init)
    let frames = buckets.map(\.frames)
    guard !frames.isEmpty, zip(frames, frames.dropFirst()).allSatisfy(<) else {
      throw fields.wrong("buckets", "null, or buckets that ascend in frames")
    }
    return buckets
  }

  /// Refuses names that are absolute, go up, or mean another thing on another system.
  static func requireInside(_ name: String) throws {
    let parts = name.split(separator: "/", omittingEmptySubsequences: true)
    let isForeign = name.unicodeScalars.contains { $0 == "\\" || $0 == ":" || $0.value == 0 }
    guard !parts.isEmpty, !name.hasPrefix("/"), !parts.contains(".."), !isForeign else {
      throw LpaError(
        "\(fileName): '\(name)' does not name a file inside the bundle; do not trust it")
    }
  }
}

extension Manifest {
  /// Size and SHA-256 of a file of the bundle.
  public struct File: Sendable, Equatable {
    public let bytes: Int
    public let sha256: String

    static let keys: Set = ["bytes", "sha256"]
  }

  /// A point inside the model whose values golden clips hold. `kind` says what computes it.
  public struct Tap: Sendable, Equatable {
    public let name: String
    public let kind: String
    /// Its name in the artifact.
    public let tensor: String

    static let keys: Set = ["kind", "name", "tensor", "where"]

    init(_ fields: Fields) throws {
      name = try fields.string("name")
      kind = try fields.string("kind")
      tensor = try fields.string("tensor")
      _ = try fields.optionalString("where")
    }
  }

  /// A program of a fixed number of frames, for waveforms of up to so many samples.
  public struct Bucket: Sendable, Equatable {
    public let frames: Int
    public let samples: Int

    static let keys: Set = ["frames", "samples", "seconds"]

    init(_ fields: Fields) throws {
      frames = try fields.integer("frames", atLeast: 1)
      samples = try fields.integer("samples", atLeast: 1)
    }
  }

  /// What the tokens' own file must agree with.
  public struct Vocabulary: Sendable, Equatable {
    public let size: Int
    public let blankID: Int
    public let wordDelimiter: String?
    public let file: String

    static let keys: Set = ["blank_id", "file", "size", "word_delimiter"]

    init(_ fields: Fields) throws {
      size = try fields.integer("size", atLeast: 1)
      blankID = try fields.integer("blank_id")
      wordDelimiter = try fields.optionalString("word_delimiter")
      file = try fields.string("file")
    }
  }

  /// What happens to the waveform first, and whether the artifact or the app does it.
  public struct Normalisation: Sendable, Equatable {
    public enum Kind: String, Sendable { case none, zero_mean_unit_variance }
    public enum Place: String, Sendable { case graph, app }

    public let kind: Kind
    public let place: Place
    public let epsilon: Double

    static let keys: Set = ["epsilon", "kind", "where"]

    init(_ fields: Fields) throws {
      guard let kind = Kind(rawValue: try fields.string("kind")) else {
        throw fields.wrong("kind", "none or zero_mean_unit_variance")
      }
      guard let place = Place(rawValue: try fields.string("where")) else {
        throw fields.wrong("where", "graph or app")
      }
      self.kind = kind
      self.place = place
      epsilon = try fields.optionalNumber("epsilon") ?? 0
    }
  }
}
