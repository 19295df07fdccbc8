import Foundation

/// One recording and what was said in it.
public struct Utterance: Sendable, Equatable {
  public let id: String
  public let audio: URL
  public let text: String
}

/// The utterances of a NeMo JSONL manifest: lines with `audio_filepath` (absolute, or relative to
/// the manifest) and `text`, maybe `id`; without one the audio's file name serves, numbered from
/// its second use on.
///
/// Raises LpaError, by file and line, for a line that is not JSON, a missing key or file.
public func loadUtterances(_ manifest: URL) throws -> [Utterance] {
  guard let data = try? Data(contentsOf: manifest), let text = String(validatingUTF8Data: data) else {
    throw LpaError("\(manifest.path): no such JSONL manifest; check the path")
  }
  var utterances: [Utterance] = []
  var uses: [String: Int] = [:]
  var seen: Set<String> = []
  let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
  for (index, line) in lines.enumerated() where !splitWords(String(line)).isEmpty {
    let place = "\(manifest.lastPathComponent):\(index + 1)"
    let json: JSONValue
    do {
      json = try JSONValue(parsing: Data(line.utf8))
    } catch {
      throw LpaError("\(place): expected a JSON object per line, \(error.oneLine)")
    }
    let fields = try Fields(json, place: place)
    let path = try fields.string("audio_filepath")
    let audio = URL(fileURLWithPath: path, relativeTo: manifest.deletingLastPathComponent())
    let stem = audio.deletingPathExtension().lastPathComponent
    uses[stem, default: 0] += 1
    let count = uses[stem, default: 1]
    let id = try fields.optionalString("id") ?? (count == 1 ? stem : "\(stem)-\(count)")
    guard seen.insert(id).inserted else {
      throw LpaError("\(place): id '\(id)' is there twice; ids must differ")
    }
    guard FileManager.default.fileExists(atPath: audio.path) else {
      throw LpaError("\(place): no audio file \(audio.path)")
    }
    utterances.append(Utterance(id: id, audio: audio, text: try fields.string("text")))
  }
  guard !utterances.isEmpty else { throw LpaError("\(manifest.path): no utterance found") }
  return utterances
}

/// SHA-256 over ids, texts and audio bytes, as lpa-validate takes it: the same speech, the same
/// digest, whatever folder it lies in.
public func dataHash(_ utterances: [Utterance]) throws -> String {
  var hash = Sha256()
  for utterance in utterances {
    let parts = [utterance.id, utterance.text, try Sha256.ofFile(utterance.audio)]
    let quoted = parts.map { JSONValue.quoted($0, asciiOnly: true) }
    hash.update(Data("[\(quoted.joined(separator: ", "))]\n".utf8))
  }
  return hash.hexadecimalDigest()
}
