import Foundation

/// What the system says of a file. FileManager's attributes look the owner's and the group's names up
/// too, which takes longer than hashing a small file.
struct FileStatus {
  let bytes: Int
  let isFolder: Bool

  /// Of what a link leads to, or of the link itself; nil where there is nothing.
  init?(_ path: String, followingLinks: Bool = true) {
    var found = stat()
    guard (followingLinks ? stat(path, &found) : lstat(path, &found)) == 0 else { return nil }
    bytes = Int(found.st_size)
    isFolder = found.st_mode & S_IFMT == S_IFDIR
  }
}
