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
  private static let unfinished = ".unfinished-"

  /// The bundle that was imported, if there is one.
  public func imported() throws -> LPABundle? {
    guard FileManager.default.fileExists(atPath: place.path) else { return nil }
    return try opened(place)
  }

  /// The bundle that was imported, else the one in the app's resources.
  ///
  /// Raises LpaError where there is neither, and for one that is damaged.
  public func present(resources: URL?) throws -> LPABundle {
    if let imported = try imported() { return imported }
    guard let resources, FileManager.default.fileExists(atPath: resources.path) else {
      throw LpaError("no bundle yet: import a folder of lpa-export, or put one in by lpa-bundle")
    }
    return try opened(resources)
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
    let new = root.appendingPathComponent(BundleLibrary.unfinished + UUID().uuidString)
    defer { try? files.removeItem(at: new) }
    do {
      try files.createDirectory(at: root, withIntermediateDirectories: true)
      removeUnfinished()
      try files.copyItem(at: folder, to: new)
    } catch {
      throw LpaError("\(folder.lastPathComponent): cannot be copied (\(error.oneLine))")
    }
    _ = try opened(new)
    let old = root.appendingPathComponent(BundleLibrary.unfinished + UUID().uuidString)
    let replaces = files.fileExists(atPath: place.path)
    do {
      if replaces { try files.moveItem(at: place, to: old) }
      try files.moveItem(at: new, to: place)
    } catch {
      if replaces, !files.fileExists(atPath: place.path) { try? files.moveItem(at: old, to: place) }
      throw LpaError("\(folder.lastPathComponent): cannot be put in place (\(error.oneLine))")
    }
    try? files.removeItem(at: old)
    return try opened(place)
  }

  /// What an import left that was ended from outside.
  private func removeUnfinished() {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
    for name in names where name.hasPrefix(BundleLibrary.unfinished) {
      try? FileManager.default.removeItem(at: root.appendingPathComponent(name))
    }
  }

  public func remove() {
    try? FileManager.default.removeItem(at: place)
  }
}
