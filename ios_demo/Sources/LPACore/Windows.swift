/// What a bundle says about the windows of one LPA layer: the numbers of its fixed ones, and the
/// output that holds the edges of those that follow the speech.
public struct WindowSection: Sendable, Equatable {
  public let layer: Int
  public let heads: Int
  /// How many windows per head and frame follow the speech.
  public let aperiodic: Int
  /// The output with their edges in frames relative to each frame, (frames, 2 x heads x aperiodic):
  /// lower ones of all heads pulse by pulse, then upper ones. Nil where there are none.
  public let edges: String?
  /// Period, phase and width in frames, for each head and pulse.
  public let teeth: [Tooth]
  /// Edges as shares of the recording, for each head and pulse.
  public let shares: [Share]

  public struct Tooth: Sendable, Equatable {
    public let head: Int
    public let period: Double
    public let phase: Double
    public let width: Double

    static let keys: Set = ["head", "period", "phase", "width"]
  }

  public struct Share: Sendable, Equatable {
    public let head: Int
    public let lower: Double
    public let upper: Double

    static let keys: Set = ["head", "lower", "upper"]
  }

  /// The name under which a runner gives the edges.
  public var tap: String { "windows.\(layer)" }

  static let keys: Set = ["aperiodic", "edges", "heads", "layer", "shares", "teeth"]

  init(_ fields: Fields) throws {
    layer = try fields.integer("layer")
    heads = try fields.integer("heads", atLeast: 1)
    aperiodic = try fields.integer("aperiodic")
    edges = try fields.optionalString("edges")
    teeth = try fields.objects("teeth", known: Tooth.keys).map {
      Tooth(
        head: try $0.integer("head"), period: try $0.number("period"),
        phase: try $0.number("phase"), width: try $0.number("width"))
    }
    shares = try fields.objects("shares", known: Share.keys).map {
      Share(head: try $0.integer("head"), lower: try $0.number("lower"), upper: try $0.number("upper"))
    }
    guard teeth.allSatisfy({ $0.period > 0 }), (edges == nil) == (aperiodic == 0) else {
      throw fields.wrong("teeth", "windows with a period, and 'edges' where some follow the speech")
    }
  }
}

/// Which frames an LPA layer averages on one recording, head by head and pulse by pulse.
public struct LayerWindows: Sendable, Equatable {
  public enum Family: String, CaseIterable, Sendable {
    case aperiodic, periodic, positional
  }

  public struct Pulse: Sendable, Equatable {
    public let family: Family
    public let head: Int
    /// The frames that are averaged for each frame; nil: this pulse gives it nothing.
    public let spans: [Range<Int>?]
  }

  public let layer: Int
  public let heads: Int
  public let frames: Int
  public let pulses: [Pulse]

  /// The windows of a recording of so many frames. `edges`: (frames, 2 x heads x aperiodic).
  ///
  /// Raises LpaError when the edges are of another shape, or not numbers.
  public init(_ section: WindowSection, frames: Int, edges: Matrix?) throws {
    layer = section.layer
    heads = section.heads
    self.frames = frames
    let pulses = section.heads * section.aperiodic
    var found: [Pulse] = []
    if pulses > 0 {
      guard let edges, edges.rows == frames, edges.columns == 2 * pulses,
        nonFinite(edges.values) == 0
      else { throw LpaError("the edges of layer \(section.layer) are not (\(frames), \(2 * pulses))") }
      for pulse in 0..<pulses {
        let spans = (0..<frames).map { frame -> Range<Int>? in
          let row = frame * edges.columns
          let lower = Self.ceiling(Double(edges.values[row + pulse]), frames)
          let upper = Self.ceiling(Double(edges.values[row + pulses + pulse]), frames)
          return Self.clipped(frame + lower, frame + upper, frames)
        }
        found.append(Pulse(family: .aperiodic, head: pulse % section.heads, spans: spans))
      }
    }
    for tooth in section.teeth {
      let spans = (0..<frames).map { frame -> Range<Int>? in
        let periods = ((Double(frame) + 0.5 - tooth.phase) / tooth.period).rounded(.down)
        let lower = tooth.phase + periods * tooth.period
        return Self.clipped(
          Self.ceiling(lower - 0.5, frames), Self.ceiling(lower + tooth.width - 0.5, frames), frames)
      }
      found.append(Pulse(family: .periodic, head: tooth.head, spans: spans))
    }
    for share in section.shares {
      let window = Self.clipped(
        Self.ceiling(share.lower * Double(frames) - 0.5, frames),
        Self.ceiling(share.upper * Double(frames) - 0.5, frames), frames)
      // What is averaged inside the window is given to the frames inside it.
      let spans = (0..<frames).map { window.contains($0) ? window : nil }
      found.append(Pulse(family: .positional, head: share.head, spans: spans))
    }
    self.pulses = found
  }

  /// How many pulses of those heads and families average frame s for frame t: [t][s], for a picture.
  public func counts(heads chosen: Set<Int>, families: Set<Family>) -> [[Int]] {
    var counts = [[Int]](repeating: [Int](repeating: 0, count: frames), count: frames)
    for pulse in pulses where chosen.contains(pulse.head) && families.contains(pulse.family) {
      for (frame, span) in pulse.spans.enumerated() {
        guard let span else { continue }
        for averaged in span { counts[frame][averaged] += 1 }
      }
    }
    return counts
  }

  /// A number rounded up, held within what a recording can need: edges come from a model.
  private static func ceiling(_ value: Double, _ frames: Int) -> Int {
    let bound = Double(2 * frames + 2)
    return Int(max(-bound, min(bound, value.rounded(.up))))
  }

  /// Into the recording, at least one frame wide.
  private static func clipped(_ start: Int, _ end: Int, _ frames: Int) -> Range<Int> {
    let first = max(0, min(start, frames - 1))
    return first..<max(min(end, frames), first + 1)
  }
}

/// The windows of every LPA layer on a waveform.
///
/// Raises LpaError where the bundle does not hold them, and what the runner raises.
public func layerWindows(
  _ waveform: [Float], manifest: Manifest, on runner: some ModelRunner
) async throws -> [LayerWindows] {
  guard !runner.windows.isEmpty else {
    throw LpaError(
      "this bundle does not tell its windows; export it with --taps outputs")
  }
  let wanted = Set(runner.windows.filter { $0.edges != nil }.map(\.tap))
  let found = try await runner.run(waveform, taps: wanted)
  return try runner.windows.map {
    try LayerWindows($0, frames: found.logits.rows, edges: found.taps[$0.tap])
  }
}
