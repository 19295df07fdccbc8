import COnnxRuntime
import Foundation
import LPACore

/// A session of ONNX Runtime's C API on the CPU. Its `Run` may be called from several threads.
final class OnnxSession: @unchecked Sendable {
  private let library: OnnxLibrary
  private let api: OrtApi
  private var session: OpaquePointer?
  private var memory: OpaquePointer?

  /// `folder`: where weights lie that are too large for the model's own file.
  ///
  /// Raises LpaError with the runtime's own reason when it refuses the model.
  init(_ model: Data, folder: URL, threads: Int) throws {
    library = try OnnxLibrary.shared()
    api = library.api
    var options: OpaquePointer?
    try check(api.CreateSessionOptions(&options))
    defer { api.ReleaseSessionOptions(options) }
    try check(api.SetIntraOpNumThreads(options, Int32(threads)))
    try check(api.SetInterOpNumThreads(options, 1))
    try check(
      api.AddSessionConfigEntry(
        options, "session.model_external_initializers_file_folder_path", folder.path))
    try model.withUnsafeBytes { bytes in
      try check(
        api.CreateSessionFromArray(
          library.environment, bytes.baseAddress, bytes.count, options, &session))
    }
    try check(api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
  }

  deinit {
    api.ReleaseSession(session)
    api.ReleaseMemoryInfo(memory)
  }

  var version: String { library.version }

  var outputNames: [String] {
    get throws { try names(count: api.SessionGetOutputCount, name: api.SessionGetOutputName) }
  }

  var inputNames: [String] {
    get throws { try names(count: api.SessionGetInputCount, name: api.SessionGetInputName) }
  }

  /// Float outputs (1, rows, columns) by name, for one waveform. Raises LpaError.
  func run(_ waveform: [Float], outputs: [String]) throws -> [Matrix] {
    var samples = waveform
    var length = [Int64(waveform.count)]
    return try samples.withUnsafeMutableBytes { samples in
      try length.withUnsafeMutableBytes { length in
        let inputs = [
          try tensor(samples, [1, Int64(waveform.count)], ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
          try tensor(length, [1], ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64),
        ]
        defer { inputs.forEach { api.ReleaseValue($0) } }
        var results = [OpaquePointer?](repeating: nil, count: outputs.count)
        defer { results.forEach { api.ReleaseValue($0) } }
        try withCStrings(["waveform", "lengths"]) { inputNames in
          try withCStrings(outputs) { outputNames in
            try check(
              api.Run(
                session, nil, inputNames, inputs, inputs.count, outputNames, outputs.count, &results))
          }
        }
        return try zip(results, outputs).map { try matrix($0, name: $1) }
      }
    }
  }

  private func tensor(
    _ bytes: UnsafeMutableRawBufferPointer, _ shape: [Int64], _ type: ONNXTensorElementDataType
  ) throws -> OpaquePointer? {
    var value: OpaquePointer?
    try check(
      api.CreateTensorWithDataAsOrtValue(
        memory, bytes.baseAddress, bytes.count, shape, shape.count, type, &value))
    return value
  }

  private func matrix(_ value: OpaquePointer?, name: String) throws -> Matrix {
    var info: OpaquePointer?
    try check(api.GetTensorTypeAndShape(value, &info))
    defer { api.ReleaseTensorTypeAndShapeInfo(info) }
    var rank = 0
    try check(api.GetDimensionsCount(info, &rank))
    var shape = [Int64](repeating: 0, count: rank)
    try check(api.GetDimensions(info, &shape, rank))
    var type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
    try check(api.GetTensorElementType(info, &type))
    var data: UnsafeMutableRawPointer?
    try check(api.GetTensorMutableData(value, &data))
    guard rank == 3, shape[0] == 1, type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, let data else {
      throw LpaError("'\(name)' is not float32 of (1, frames, width), its shape is \(shape)")
    }
    let (rows, columns) = (Int(shape[1]), Int(shape[2]))
    let values = UnsafeBufferPointer(
      start: data.assumingMemoryBound(to: Float.self), count: rows * columns)
    return try Matrix(rows: rows, columns: columns, values: Array(values))
  }

  private func names(
    count: (OpaquePointer?, UnsafeMutablePointer<Int>?) -> OrtStatusPtr?,
    name: (
      OpaquePointer?, Int, UnsafeMutablePointer<OrtAllocator>?,
      UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    ) -> OrtStatusPtr?
  ) throws -> [String] {
    var allocator: UnsafeMutablePointer<OrtAllocator>?
    try check(api.GetAllocatorWithDefaultOptions(&allocator))
    var found = 0
    try check(count(session, &found))
    return try (0..<found).map { index in
      var text: UnsafeMutablePointer<CChar>?
      try check(name(session, index, allocator, &text))
      guard let text else { throw LpaError("ONNX Runtime names no output \(index)") }
      defer { _ = api.AllocatorFree(allocator, text) }
      return String(cString: text)
    }
  }

  private func check(_ status: OrtStatusPtr?) throws { try api.check(status) }
}

/// The strings as an array of C strings, for the length of the call.
private func withCStrings<R>(
  _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) throws -> R
) rethrows -> R {
  let copies = strings.map { strdup($0) }
  defer { copies.forEach { free($0) } }
  let pointers = copies.map { UnsafePointer<CChar>($0) }
  return try pointers.withUnsafeBufferPointer { try body($0.baseAddress) }
}
