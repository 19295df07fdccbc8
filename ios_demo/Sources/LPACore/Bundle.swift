import Foundation

/// A folder that lpa-export wrote, opened: its manifest and tokens; the files are checked when
/// asked. A bundle may come from anywhere, so its names are not trusted.
public struct LPABundle: Sendable {
  public let folder: URL
  public let manifest: Manifest
  /// SHA-256 of manifest.json, which holds that of every other file: the bundle's identity.
  public let sha256: String
  /// The folder with its links followed: nothing of the bundle may lie elsewhere.
  private let root: String

  /// Opens a folder and checks the form of its manifest. Raises LpaError in one line.
  public init(_ folder: URL) throws {
    let name = folder.lastPathComponent
    var isFolder: ObjCBool = false
    let exists = FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder)
    guard exists, isFolder.boolValue else {
      throw LpaError("\(folder.path): no such bundle folder; run lpa-export first, or check the path")
    }
    let place = folder.appendingPathComponent(Manifest.fileName)
    guard let data = try? Data(contentsOf: place) else {
      throw LpaError("\(name): not a bundle, it has no \(Manifest.fileName); give a folder of lpa-export")
    }
    self.folder = folder
    root = folder.resolvingSymlinksInPath().standardizedFileURL.path
    sha256 = Sha256.of(data)
    do {
      manifest = try Manifest(parsing: data)
    } catch {
      throw LpaError("\(name)/\(error.oneLine)")
    }
  }

  /// Raises LpaError for a bundle of another target than those.
  public func require(targets: [String], hint: String = "") throws {
    guard !targets.contains(manifest.target) else { return }
    throw LpaError(
      "\(folder.lastPathComponent): a bundle for target '\(manifest.target)', expected "
        + "'\(targets.joined(separator: "' or '"))'\(hint)")
  }

  /// The place of a file of the bundle. Raises LpaError when it (or a link it names) leads out of
  /// the folder, or is not there.
  public func file(_ name: String) throws -> URL {
    try Manifest.requireInside(name)
    let place = folder.appendingPathComponent(name)
    guard place.resolvingSymlinksInPath().standardizedFileURL.path.hasPrefix(root + "/") else {
      throw LpaError("\(name): a link out of the bundle; put the file itself there")
    }
    guard FileManager.default.fileExists(atPath: place.path) else {
      throw LpaError("\(name): missing from the bundle; export it again")
    }
    return place
  }

  public func data(_ name: String) throws -> Data {
    let place = try file(name)
    guard let data = try? Data(contentsOf: place) else {
      throw LpaError("\(name): cannot be read; export the bundle again")
    }
    return data
  }

  /// The tokens. Raises LpaError for a file that is none, or does not agree with the manifest.
  public func vocabulary() throws -> CTCVocabulary {
    let stated = manifest.vocabulary
    let vocabulary = try CTCVocabulary(parsing: data(stated.file), place: stated.file)
    guard vocabulary.count == stated.size, vocabulary.blank == stated.blankID else {
      throw LpaError(
        "\(stated.file): \(vocabulary.count) tokens and blank \(vocabulary.blank), the manifest "
          + "says \(stated.size) and \(stated.blankID); export the bundle again")
    }
    return vocabulary
  }

  /// One line per missing, altered, truncated or unlisted file; empty for a sound bundle.
  ///
  /// Reports are written after export and may be there.
  public func damage() -> [String] {
    // The largest first: the others are hashed beside it.
    let files = manifest.files.sorted { ($1.value.bytes, $0.key) < ($0.value.bytes, $1.key) }
    let problems = concurrently(files) { file in damage(file.key, file.value) }
    var lines = zip(files, problems).compactMap { file, problem in
      problem.map { "\(file.key): \($0)" }
    }
    lines.sort()
    let known = Set(manifest.files.keys).union([
      Manifest.fileName, "report.json", ".report.json.new",
    ])
    for name in LPABundle.files(below: folder) where !known.contains(name) {
      lines.append("\(name): not listed in the manifest")
    }
    return lines
  }

  /// Raises LpaError with the first damaged file and how many there are.
  public func requireSound() throws {
    let damage = damage()
    guard let first = damage.first else { return }
    let more = damage.count > 1 ? " and \(damage.count - 1) more" : ""
    throw LpaError("\(folder.lastPathComponent): damaged: \(first)\(more); export the bundle again")
  }

  private func damage(_ name: String, _ entry: Manifest.File) -> String? {
    let place: URL
    do {
      place = try file(name)
    } catch {
      return error.oneLine.contains("a link") ? "a link out of the bundle" : "missing"
    }
    guard let size = FileStatus(place.path)?.bytes else { return "cannot be read" }
    if size != entry.bytes {
      let kind = size < entry.bytes ? "truncated" : "altered"
      return "\(kind), \(entry.bytes) bytes expected, \(size) found"
    }
    guard let digest = try? Sha256.ofFile(place) else { return "cannot be read" }
    if digest != entry.sha256 {
      return "altered, SHA-256 \(entry.sha256.prefix(12)) expected, \(digest.prefix(12)) found"
    }
    return nil
  }

  /// Relative names of all files and links below a folder, links not followed.
  static func files(below folder: URL, prefix: String = "") -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.sorted().flatMap { name -> [String] in
      let place = folder.appendingPathComponent(name)
      let isFolder = FileStatus(place.path, followingLinks: false)?.isFolder == true
      return isFolder ? files(below: place, prefix: prefix + name + "/") : [prefix + name]
    }
  }
}
