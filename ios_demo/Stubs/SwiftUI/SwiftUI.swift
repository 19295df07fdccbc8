// What the app uses of SwiftUI, as declarations, so that Linux can type-check it. It draws nothing.
// Each block names the page of Apple's documentation that it was written from; what only holds the
// stub together, and is no part of SwiftUI, is in Machinery.swift.

@_exported import Foundation
@_exported import Observation
import UniformTypeIdentifiers

// https://developer.apple.com/documentation/swiftui/view
@MainActor @preconcurrency public protocol View {
  associatedtype Body: View
  @ViewBuilder var body: Body { get }
}

// https://developer.apple.com/documentation/swift/never
extension Never: View {
  public var body: Never { fatalError("a stub") }
}

// https://developer.apple.com/documentation/swiftui/emptyview
public struct EmptyView: StubView {
  nonisolated public init() {}
}

// https://developer.apple.com/documentation/swiftui/tupleview
public struct TupleView<T>: StubView {
  nonisolated init() {}
}

// https://developer.apple.com/documentation/swiftui/viewbuilder
@resultBuilder public struct ViewBuilder {
  public static func buildBlock() -> EmptyView { EmptyView() }
  public static func buildExpression<Content: View>(_ content: Content) -> Content { content }
  public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
  public static func buildBlock<each Content: View>(
    _ content: repeat each Content
  ) -> TupleView<(repeat each Content)> { TupleView() }
  public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
  public static func buildEither<A: View, B: View>(first: A) -> Either<A, B> { Either() }
  public static func buildEither<A: View, B: View>(second: B) -> Either<A, B> { Either() }
}

// https://developer.apple.com/documentation/swift/optional (views that may be missing)
extension Optional: View where Wrapped: View {
  public var body: Never { fatalError("a stub") }
}

// https://developer.apple.com/documentation/swiftui/localizedstringkey
public struct LocalizedStringKey: ExpressibleByStringInterpolation, Sendable {
  public init(stringLiteral value: String) {}
  public init(stringInterpolation: StringInterpolation) {}
}

// https://developer.apple.com/documentation/swiftui/localizedstringkey/stringinterpolation
extension LocalizedStringKey {
  public struct StringInterpolation: StringInterpolationProtocol {
    public init(literalCapacity: Int, interpolationCount: Int) {}
    public mutating func appendLiteral(_ literal: String) {}
    public mutating func appendInterpolation(_ string: String) {}
    public mutating func appendInterpolation(_ value: Int) {}
    public mutating func appendInterpolation<F: FormatStyle>(
      _ input: F.FormatInput, format: F
    ) where F.FormatInput: Equatable, F.FormatOutput == String {}
  }
}

// https://developer.apple.com/documentation/swiftui/text
public struct Text: StubView, Sendable {
  nonisolated public init(_ key: LocalizedStringKey) {}
  @_disfavoredOverload nonisolated public init<S: StringProtocol>(_ content: S) {}
}

// https://developer.apple.com/documentation/swiftui/text/bold()
extension Text {
  nonisolated public func bold() -> Text { self }
}

// https://developer.apple.com/documentation/swiftui/text/monospaceddigit()
extension Text {
  nonisolated public func monospacedDigit() -> Text { self }
}

// https://developer.apple.com/documentation/swiftui/text/font(_:)
extension Text {
  nonisolated public func font(_ font: Font?) -> Text { self }
}

// https://developer.apple.com/documentation/swiftui/text/foregroundstyle(_:)
extension Text {
  nonisolated public func foregroundStyle<S: ShapeStyle>(_ style: S) -> Text { self }
}

// https://developer.apple.com/documentation/swiftui/shapestyle
public protocol ShapeStyle: Sendable {}

// https://developer.apple.com/documentation/swiftui/color
public struct Color: ShapeStyle, StubView, Sendable {
  nonisolated init() {}
  public static let accentColor = Color()
  public static let red = Color()
  public static let green = Color()
  public static let orange = Color()
  public static let secondary = Color()
  public func opacity(_ opacity: Double) -> Color { self }
}

// https://developer.apple.com/documentation/swiftui/shapestyle (colours by name)
extension ShapeStyle where Self == Color {
  public static var red: Color { Color() }
  public static var green: Color { Color() }
  public static var orange: Color { Color() }
}

// https://developer.apple.com/documentation/swiftui/hierarchicalshapestyle
public struct HierarchicalShapeStyle: ShapeStyle {}

// https://developer.apple.com/documentation/swiftui/shapestyle/secondary
extension ShapeStyle where Self == HierarchicalShapeStyle {
  public static var secondary: HierarchicalShapeStyle { HierarchicalShapeStyle() }
}

// https://developer.apple.com/documentation/swiftui/font
public struct Font: Hashable, Sendable {
  public static let caption = Font()
}

// https://developer.apple.com/documentation/swiftui/alignment
public struct Alignment: Equatable, Sendable {
  public static let leading = Alignment()
  public static let center = Alignment()
}

// https://developer.apple.com/documentation/swiftui/verticalalignment
public struct VerticalAlignment: Equatable, Sendable {
  public static let center = VerticalAlignment()
}

// https://developer.apple.com/documentation/swiftui/hstack
public struct HStack<Content: View>: StubView {
  public init(
    alignment: VerticalAlignment = .center, spacing: CGFloat? = nil,
    @ViewBuilder content: () -> Content
  ) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/spacer
public struct Spacer: StubView {
  public init(minLength: CGFloat? = nil) {}
}

// https://developer.apple.com/documentation/swiftui/list
public struct List<Content: View>: StubView {
  public init(@ViewBuilder content: () -> Content) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/section
public struct Section<Parent, Content: View, Footer>: StubView {}

// https://developer.apple.com/documentation/swiftui/section/init(_:content:)
extension Section where Parent == Text, Footer == EmptyView {
  public init(_ titleKey: LocalizedStringKey, @ViewBuilder content: () -> Content) { _ = content() }
  @_disfavoredOverload
  public init<S: StringProtocol>(_ title: S, @ViewBuilder content: () -> Content) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/section/init(content:)
extension Section where Parent == EmptyView, Footer == EmptyView {
  public init(@ViewBuilder content: () -> Content) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/navigationstack
public struct NavigationStack<Root: View>: StubView {
  public init(@ViewBuilder root: () -> Root) { _ = root() }
}

// https://developer.apple.com/documentation/swiftui/tabview
public struct TabView<Content: View>: StubView {
  public init(@ViewBuilder content: () -> Content) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/grid
public struct Grid<Content: View>: StubView {
  public init(
    alignment: Alignment = .center, horizontalSpacing: CGFloat? = nil,
    verticalSpacing: CGFloat? = nil, @ViewBuilder content: () -> Content
  ) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/gridrow
public struct GridRow<Content: View>: StubView {
  public init(
    alignment: VerticalAlignment? = nil, @ViewBuilder content: () -> Content
  ) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/foreach
public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: StubView {
  nonisolated init() {}
}

// https://developer.apple.com/documentation/swiftui/foreach/init(_:content:)
extension ForEach where ID == Data.Element.ID, Data.Element: Identifiable {
  public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> Content) {
    for element in data { _ = content(element) }
  }
}

// https://developer.apple.com/documentation/swiftui/foreach/init(_:id:content:)
extension ForEach {
  public init(
    _ data: Data, id: KeyPath<Data.Element, ID>,
    @ViewBuilder content: @escaping (Data.Element) -> Content
  ) { for element in data { _ = content(element) } }
}

// https://developer.apple.com/documentation/swiftui/buttonrole
public struct ButtonRole: Equatable, Sendable {
  public static let destructive = ButtonRole()
}

// https://developer.apple.com/documentation/swiftui/button
public struct Button<Label: View>: StubView {
  public init(
    action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Label
  ) { _ = label() }
}

// https://developer.apple.com/documentation/swiftui/button/init(_:role:action:)
extension Button where Label == Text {
  public init(
    _ titleKey: LocalizedStringKey, role: ButtonRole? = nil, action: @escaping @MainActor () -> Void
  ) {}
}

// https://developer.apple.com/documentation/swiftui/label
public struct Label<Title: View, Icon: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/label/init(_:systemimage:)
extension Label where Title == Text, Icon == Image {
  public init(_ titleKey: LocalizedStringKey, systemImage name: String) {}
}

// https://developer.apple.com/documentation/swiftui/image
public struct Image: StubView {
  nonisolated init() {}
}

// https://developer.apple.com/documentation/swiftui/labeledcontent
public struct LabeledContent<Label, Content>: StubView {}

// https://developer.apple.com/documentation/swiftui/labeledcontent/init(_:value:)
extension LabeledContent where Label == Text, Content == Text {
  public init<S: StringProtocol>(_ titleKey: LocalizedStringKey, value: S) {}
  @_disfavoredOverload public init<S1: StringProtocol, S2: StringProtocol>(_ title: S1, value: S2) {}
}

// https://developer.apple.com/documentation/swiftui/progressview
public struct ProgressView<Label: View, CurrentValueLabel: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/progressview/init()
extension ProgressView where Label == EmptyView, CurrentValueLabel == EmptyView {
  public init() {}
}

// https://developer.apple.com/documentation/swiftui/progressview/init(value:total:)
extension ProgressView where Label == EmptyView, CurrentValueLabel == EmptyView {
  public init<V: BinaryFloatingPoint>(value: V?, total: V = 1.0) {}
}

// https://developer.apple.com/documentation/swiftui/picker
public struct Picker<Label: View, SelectionValue: Hashable, Content: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/picker/init(_:selection:content:)
extension Picker where Label == Text {
  public init(
    _ titleKey: LocalizedStringKey, selection: Binding<SelectionValue>,
    @ViewBuilder content: () -> Content
  ) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/stepper
public struct Stepper<Label: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/stepper/init(_:value:in:step:oneditingchanged:)
extension Stepper where Label == Text {
  public init<V: Strideable>(
    _ titleKey: LocalizedStringKey, value: Binding<V>, in bounds: ClosedRange<V>,
    step: V.Stride = 1, onEditingChanged: @escaping (Bool) -> Void = { _ in }
  ) {}
}

// https://developer.apple.com/documentation/swiftui/toggle
public struct Toggle<Label: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/toggle/init(_:ison:)
extension Toggle where Label == Text {
  @_disfavoredOverload public init<S: StringProtocol>(_ title: S, isOn: Binding<Bool>) {}
}

// https://developer.apple.com/documentation/swiftui/sharelink
public struct ShareLink<Label: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/sharelink/init(_:item:subject:message:)
extension ShareLink where Label == DefaultShareLinkLabel {
  public init(
    _ titleKey: LocalizedStringKey, item: String, subject: Text? = nil, message: Text? = nil
  ) {}
}

// https://developer.apple.com/documentation/swiftui/defaultsharelinklabel
public struct DefaultShareLinkLabel: StubView {}

// https://developer.apple.com/documentation/swiftui/timelineview
public struct TimelineView<Schedule: TimelineSchedule, Content: View>: StubView {
  public init(
    _ schedule: Schedule, @ViewBuilder content: @escaping (TimelineViewDefaultContext) -> Content
  ) {}
}

// https://developer.apple.com/documentation/swiftui/timelineviewdefaultcontext
public struct TimelineViewDefaultContext {
  public let date: Date
}

// https://developer.apple.com/documentation/swiftui/timelineschedule
public protocol TimelineSchedule {}

// https://developer.apple.com/documentation/swiftui/periodictimelineschedule
public struct PeriodicTimelineSchedule: TimelineSchedule {}

// https://developer.apple.com/documentation/swiftui/timelineschedule/periodic(from:by:)
extension TimelineSchedule where Self == PeriodicTimelineSchedule {
  public static func periodic(
    from startDate: Date, by interval: TimeInterval
  ) -> PeriodicTimelineSchedule { PeriodicTimelineSchedule() }
}

// https://developer.apple.com/documentation/swiftui/canvas
public struct Canvas<Symbols: View>: StubView {}

// https://developer.apple.com/documentation/swiftui/canvas/init(opaque:colormode:rendersasynchronously:renderer:)
extension Canvas where Symbols == EmptyView {
  public init(
    opaque: Bool = false, rendersAsynchronously: Bool = false,
    renderer: @escaping (inout GraphicsContext, CGSize) -> Void
  ) {}
}

// https://developer.apple.com/documentation/swiftui/graphicscontext
public struct GraphicsContext {
  public func fill(_ path: Path, with shading: Shading) {}
}

// https://developer.apple.com/documentation/swiftui/graphicscontext/shading
extension GraphicsContext {
  public struct Shading: Sendable {
    public static func color(_ color: Color) -> Shading { Shading() }
  }
}

// https://developer.apple.com/documentation/swiftui/path
public struct Path: Equatable, Sendable {
  public init(_ rect: CGRect) {}
}

// https://developer.apple.com/documentation/swiftui/contentmode
public enum ContentMode: Hashable, CaseIterable, Sendable { case fit, fill }

// https://developer.apple.com/documentation/swiftui/textselectability
public protocol TextSelectability {}

// https://developer.apple.com/documentation/swiftui/enabledtextselectability
public struct EnabledTextSelectability: TextSelectability {}

// https://developer.apple.com/documentation/swiftui/textselectability/enabled
extension TextSelectability where Self == EnabledTextSelectability {
  public static var enabled: EnabledTextSelectability { EnabledTextSelectability() }
}

// https://developer.apple.com/documentation/swiftui/view/font(_:)
extension View {
  nonisolated public func font(_ font: Font?) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/foregroundstyle(_:)
extension View {
  nonisolated public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/navigationtitle(_:)
extension View {
  nonisolated public func navigationTitle(_ titleKey: LocalizedStringKey) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/disabled(_:)
extension View {
  nonisolated public func disabled(_ disabled: Bool) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/tag(_:includeoptional:)
extension View {
  nonisolated public func tag<V: Hashable>(_ tag: V, includeOptional: Bool = true) -> some View {
    Modified()
  }
}

// https://developer.apple.com/documentation/swiftui/view/tabitem(_:)
extension View {
  nonisolated public func tabItem<V: View>(@ViewBuilder _ label: () -> V) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/textselection(_:)
extension View {
  nonisolated public func textSelection<S: TextSelectability>(_ selectability: S) -> some View {
    Modified()
  }
}

// https://developer.apple.com/documentation/swiftui/view/aspectratio(_:contentmode:)
extension View {
  nonisolated public func aspectRatio(
    _ aspectRatio: CGFloat? = nil, contentMode: ContentMode
  ) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/accessibilitylabel(_:)
extension View {
  nonisolated public func accessibilityLabel(_ labelKey: LocalizedStringKey) -> some View {
    Modified()
  }
}

// https://developer.apple.com/documentation/swiftui/view/task(priority:_:)
extension View {
  nonisolated public func task(
    priority: TaskPriority = .userInitiated,
    @_inheritActorContext _ action: @escaping @Sendable () async -> Void
  ) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/onchange(of:initial:_:)
extension View {
  nonisolated public func onChange<V: Equatable>(
    of value: V, initial: Bool = false, _ action: @escaping @MainActor (V, V) -> Void
  ) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/view/fileimporter(ispresented:allowedcontenttypes:oncompletion:)
extension View {
  nonisolated public func fileImporter(
    isPresented: Binding<Bool>, allowedContentTypes: [UTType],
    onCompletion: @escaping @MainActor (Result<URL, any Error>) -> Void
  ) -> some View { Modified() }
}

// https://developer.apple.com/documentation/swiftui/scenephase
public enum ScenePhase: Comparable, Sendable { case background, inactive, active }

// https://developer.apple.com/documentation/swiftui/environmentvalues
public struct EnvironmentValues {}

// https://developer.apple.com/documentation/swiftui/environmentvalues/scenephase
extension EnvironmentValues {
  public var scenePhase: ScenePhase { .active }
}

// https://developer.apple.com/documentation/swiftui/environment
@propertyWrapper public struct Environment<Value> {
  private let path: KeyPath<EnvironmentValues, Value>
  public init(_ keyPath: KeyPath<EnvironmentValues, Value>) { path = keyPath }
  public var wrappedValue: Value { EnvironmentValues()[keyPath: path] }
}

// https://developer.apple.com/documentation/swiftui/binding
@propertyWrapper public struct Binding<Value> {
  private let read: () -> Value
  private let write: (Value) -> Void
  public init(get: @escaping () -> Value, set: @escaping (Value) -> Void) {
    read = get
    write = set
  }
  public var wrappedValue: Value {
    get { read() }
    nonmutating set { write(newValue) }
  }
  public var projectedValue: Binding<Value> { self }
}

// https://developer.apple.com/documentation/swiftui/state
@propertyWrapper public struct State<Value> {
  private let box: Box<Value>
  public init(wrappedValue value: Value) { box = Box(value) }
  public var wrappedValue: Value {
    get { box.value }
    nonmutating set { box.value = newValue }
  }
  public var projectedValue: Binding<Value> {
    let box = box
    return Binding(get: { box.value }, set: { box.value = $0 })
  }
}

// https://developer.apple.com/documentation/swiftui/bindable
@dynamicMemberLookup @propertyWrapper public struct Bindable<Value: AnyObject> {
  public var wrappedValue: Value
  public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
  public var projectedValue: Bindable<Value> { self }
  public subscript<Subject>(
    dynamicMember keyPath: ReferenceWritableKeyPath<Value, Subject>
  ) -> Binding<Subject> {
    let object = wrappedValue
    return Binding(get: { object[keyPath: keyPath] }, set: { object[keyPath: keyPath] = $0 })
  }
}

// https://developer.apple.com/documentation/swiftui/scene
@MainActor @preconcurrency public protocol Scene {}

// https://developer.apple.com/documentation/swiftui/scenebuilder
@resultBuilder public struct SceneBuilder {
  public static func buildBlock<Content: Scene>(_ content: Content) -> Content { content }
}

// https://developer.apple.com/documentation/swiftui/windowgroup
public struct WindowGroup<Content: View>: Scene {
  public init(@ViewBuilder content: () -> Content) { _ = content() }
}

// https://developer.apple.com/documentation/swiftui/app
@MainActor @preconcurrency public protocol App {
  associatedtype Body: Scene
  @SceneBuilder var body: Body { get }
  init()
}

// https://developer.apple.com/documentation/swiftui/app/main()
extension App {
  public static func main() { _ = Self().body }
}
