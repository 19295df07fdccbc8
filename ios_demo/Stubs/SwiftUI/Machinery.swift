// What holds the stub together. The app must not use it: none of it is in SwiftUI.

/// A view that draws itself.
public protocol StubView: View where Body == Never {}

extension StubView {
  public var body: Never { fatalError("a stub") }
}

/// What a modifier gives.
struct Modified: StubView {
  nonisolated init() {}
}

/// What an `if` or a `switch` of a view builder gives.
public struct Either<A: View, B: View>: StubView {
  nonisolated init() {}
}

final class Box<Value> {
  var value: Value
  init(_ value: Value) { self.value = value }
}
