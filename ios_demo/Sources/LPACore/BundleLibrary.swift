import Foundation

/// The bundle that the app works with: one, in a folder of the app's own.
public struct BundleLibrary: Sendable {
  private let root: URL
  private let target: String

  /// `root`: the folder of the app's own; `target`: what the app can run.
  public init(root: URL, target: String = "coreml") {
    self.root = root
    self.target = target
  }

  private var place: URL { root.appendingPathComponent("Bundle") }

  /// The bundle that was imported, if there is one.
  public func imported() throws -> LPABundle? {
    guard FileManager.default.fileExists(atPath: place.path) else { return nil }
    return try opened(place)
  }

  /// A bundle that is used where it lies (the app's resources), with all hashes checked.
  public func opened(_ folder: URL) throws -> LPABundle {
    let bundle = try LPABundle(folder)
    try bundle.require(
      targets: [target], hint: "; on Linux and macOS lpa-demo runs bundles of other targets")
    try bundle.requireSound()
    return bundle
  }

  /// Copies a bundle folder into the app: whole, checked before and after, or not at all.
  ///
  /// Raises LpaError in one line; what was imported before then stays.
  public func importing(_ folder: URL) throws -> LPABundle {
    _ = try opened(folder)
    let files = FileManager.default
    let new = root.appendingPathComponent(".new-\(UUID().uuidString)")
    defer { try? files.removeItem(at: new) }
    do {
      try files.createDirectory(at: root, withIntermediateDirectories: true)
      try files.copyItem(at: folder, to: new)
    } catch {
      throw LpaError("\(folder.lastPathComponent): cannot be copied (\(error.oneLine))")
    }
    _ = try opened(new)
    do {
      if files.fileExists(atPath: place.path) { try files.removeItem(at: place) }
      try files.moveItem(at: new, to: place)
    } catch {
      throw LpaError("\(folder.lastPathComponent): cannot be put in place (\(error.oneLine))")
    }
    return try opened(place)
  }

  public func remove() {
    try? FileManager.default.removeItem(at: place)
  }
}
