import Foundation

/// Where compiled packages of a bundle are kept: compiling takes seconds, and what is compiled
/// holds for the very bundle and the very build of the system only.
public struct CompiledModels: Sendable, Equatable {
  public let folder: URL
  private let root: URL

  /// `system`: the build of the system, whatever form its name has.
  public init(root: URL, bundle sha256: String, system: String) {
    self.root = root
    let key = Sha256.of(Data("\(sha256)\n\(system)".utf8))
    folder = root.appendingPathComponent(String(key.prefix(32)))
  }

  /// For this machine, below the folder for what can be made again.
  public static func ofThisSystem(bundle: LPABundle) -> CompiledModels {
    let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first
    let root = (caches ?? FileManager.default.temporaryDirectory).appendingPathComponent("lpa-compiled")
    let build = ProcessInfo.processInfo.operatingSystemVersionString
    return CompiledModels(root: root, bundle: bundle.sha256, system: build)
  }

  public func place(of package: String) -> URL {
    let name = package.replacingOccurrences(of: "/", with: "-")
    return folder.appendingPathComponent(name).appendingPathExtension("mlmodelc")
  }

  /// The compiled package, if it was kept.
  public func kept(_ package: String) -> URL? {
    let place = place(of: package)
    return FileManager.default.fileExists(atPath: place.path) ? place : nil
  }

  /// Moves a compiled package here, and drops those of other bundles and older systems.
  ///
  /// Raises LpaError when it cannot be kept.
  public func keep(_ compiled: URL, as package: String) throws -> URL {
    let files = FileManager.default
    let place = place(of: package)
    do {
      try files.createDirectory(at: folder, withIntermediateDirectories: true)
      if files.fileExists(atPath: place.path) { try files.removeItem(at: place) }
      try files.moveItem(at: compiled, to: place)
      for name in try files.contentsOfDirectory(atPath: root.path) where name != folder.lastPathComponent {
        try files.removeItem(at: root.appendingPathComponent(name))
      }
    } catch {
      throw LpaError("the compiled \(package) cannot be kept (\(error.oneLine))")
    }
    return place
  }
}
