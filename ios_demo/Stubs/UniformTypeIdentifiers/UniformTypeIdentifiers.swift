// What the app uses of Uniform Type Identifiers, as declarations, so that Linux can type-check it.
// Each block names the page of Apple's documentation that it was written from.

// https://developer.apple.com/documentation/uniformtypeidentifiers/uttype-swift.struct
public struct UTType: Hashable, Sendable {
  let identifier: String
}

// https://developer.apple.com/documentation/uniformtypeidentifiers/uttype-swift.struct/audio
extension UTType {
  public static var audio: UTType { UTType(identifier: "public.audio") }
}

// https://developer.apple.com/documentation/uniformtypeidentifiers/uttype-swift.struct/folder
extension UTType {
  public static var folder: UTType { UTType(identifier: "public.folder") }
}
