import Foundation

/// A recording in the bundle, with what the reference model gives for it at every tap.
public struct GoldenClip: Sendable, Equatable {
  public let id: String
  public let audio: String
  /// What was said.
  public let text: String
  /// What the reference model hears.
  public let transcript: String
  /// Tap name to the .npy file of its values, (frames, width).
  public let taps: [String: String]
}

extension LPABundle {
  public static let goldenIndex = "golden/index.json"

  /// The clips that golden/index.json lists.
  ///
  /// Raises LpaError when there is none, or the index is not what an export writes.
  public func goldenClips() throws -> [GoldenClip] {
    let place = LPABundle.goldenIndex
    let json: JSONValue
    do {
      json = try JSONValue(parsing: data(place))
    } catch {
      throw LpaError("\(place): \(error.oneLine)")
    }
    guard case .array(let entries) = json, !entries.isEmpty else {
      throw LpaError("\(place): lists no clip; export the bundle again")
    }
    return try entries.map {
      try GoldenClip(Fields($0, place: "\(place): an entry", known: GoldenClip.keys))
    }
  }

  public func waveform(of clip: GoldenClip) throws -> [Float] {
    try loadWaveform(file(clip.audio), at: manifest.sampleRate)
  }

  public func reference(of clip: GoldenClip, tap: String) throws -> Matrix {
    guard let name = clip.taps[tap] else { throw LpaError("\(clip.id): no golden values at \(tap)") }
    do {
      return try NpyArray(parsing: data(name)).matrix()
    } catch {
      throw LpaError("\(name): \(error.oneLine)")
    }
  }

  /// SHA-256 of each clip's audio, by clip, as the manifest lists them.
  public func goldenHashes() throws -> [String: String] {
    var hashes: [String: String] = [:]
    for clip in try goldenClips() {
      guard let listed = manifest.files[clip.audio] else {
        throw LpaError("\(clip.audio): not listed in the manifest")
      }
      hashes[clip.id] = listed.sha256
    }
    return hashes
  }
}

extension GoldenClip {
  static let keys: Set = ["audio", "id", "taps", "text", "transcript"]

  init(_ fields: Fields) throws {
    id = try fields.string("id")
    audio = try fields.string("audio")
    text = try fields.string("text")
    transcript = try fields.string("transcript")
    let named = try fields.object("taps")
    var taps: [String: String] = [:]
    for key in named.members.keys { taps[key] = try named.string(key) }
    guard taps["logits"] != nil else { throw LpaError("golden clip '\(id)': no logits") }
    self.taps = taps
  }
}
