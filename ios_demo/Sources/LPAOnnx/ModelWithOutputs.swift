import Foundation

/// An ONNX model's bytes with further values as outputs, so that taps can be read.
///
/// Protobuf readers merge a message that comes twice, and append its repeated fields. So a second
/// `graph` that holds nothing but outputs, put behind the file, adds them to the graph before it:
/// no parser of ONNX is needed. The runtime infers their types.
func withOutputs(_ model: Data, _ names: [String]) -> Data {
  // ModelProto.graph is field 7, GraphProto.output 12, ValueInfoProto.name 1.
  let outputs = names.reduce(into: Data()) { outputs, name in
    outputs += message(field: 12, message(field: 1, Data(name.utf8)))
  }
  return names.isEmpty ? model : model + message(field: 7, outputs)
}

/// A length-delimited protobuf field.
private func message(field: Int, _ body: Data) -> Data {
  Data(varint(field << 3 | 2)) + Data(varint(body.count)) + body
}

private func varint(_ value: Int) -> [UInt8] {
  var bytes: [UInt8] = []
  var rest = value
  while rest >= 0x80 {
    bytes.append(UInt8(rest & 0x7f | 0x80))
    rest >>= 7
  }
  return bytes + [UInt8(rest)]
}
