import COnnxRuntime
import Foundation
import LPACore

/// ONNX Runtime's library of 35 MB, loaded by name when it is first needed: what must be in the
/// environment before is set before, and what needs no model does not wait for it.
public struct OnnxLibrary: @unchecked Sendable {
  let api: OrtApi
  /// "1.32.0"
  let version: String
  let environment: OpaquePointer

  /// Loaded once for the process, by whoever asks first; others wait for the same.
  private static let loaded = Result { try OnnxLibrary(named: "libonnxruntime.so.1") }

  /// Raises LpaError where there is no such library, and for one that is older than its header.
  static func shared() throws -> OnnxLibrary { try loaded.get() }

  /// Loads it ahead of time. What is wrong with it is said when a session is asked for.
  public static func prepare() async { _ = loaded }

  private init(named name: String) throws {
    // Read when the library makes its environment: else a device id is kept under the home folder.
    setenv("ORT_DISABLE_TELEMETRY", "1", 1)
    typealias Entry = @convention(c) () -> UnsafePointer<OrtApiBase>?
    guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL), let symbol = dlsym(handle, "OrtGetApiBase")
    else {
      let reason = dlerror().map { String(cString: $0) } ?? "no reason given"
      throw LpaError("ONNX Runtime cannot be loaded: \(reason)")
    }
    guard let base = unsafeBitCast(symbol, to: Entry.self)(),
      let table = base.pointee.GetApi(UInt32(ORT_API_VERSION))
    else {
      throw LpaError("ONNX Runtime is older than its header, which is of version \(ORT_API_VERSION)")
    }
    api = table.pointee
    version = base.pointee.GetVersionString?().map { String(cString: $0) } ?? "unknown"
    var made: OpaquePointer?
    try api.check(api.CreateEnv(ORT_LOGGING_LEVEL_FATAL, "lpa", &made))
    guard let made else { throw LpaError("ONNX Runtime gives no environment") }
    environment = made
  }
}

extension OrtApi {
  /// Raises LpaError with the runtime's own reason for a call that failed.
  func check(_ status: OrtStatusPtr?) throws {
    guard let status else { return }
    defer { ReleaseStatus(status) }
    let message = GetErrorMessage(status).map { String(cString: $0) } ?? "no reason given"
    throw LpaError("ONNX Runtime: \(message)")
  }
}
