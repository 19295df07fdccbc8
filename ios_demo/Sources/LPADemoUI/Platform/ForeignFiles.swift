// On Linux the stub of AVFoundation declares what Apple's Foundation has of these.
import AVFoundation
import Foundation

/// A file or folder that was picked outside of the app is closed to it until it asks.
func withAccess<R>(to picked: URL, _ body: () throws -> R) rethrows -> R {
  let isForeign = picked.startAccessingSecurityScopedResource()
  defer { if isForeign { picked.stopAccessingSecurityScopedResource() } }
  return try body()
}
