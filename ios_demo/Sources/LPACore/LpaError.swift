/// A problem the user can fix, on one line: what was expected, what was found, what to do.
public struct LpaError: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String

  public init(_ message: String) {
    description = message.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }
}

extension Error {
  /// One line for the user, whatever raised it.
  public var oneLine: String {
    if let known = self as? LpaError { return known.description }
    return LpaError(String(describing: self)).description
  }
}
