/// How far a model is on its way from a bundle to text. Specialising for the Neural Engine may take
/// minutes the first time, so a user must see which step runs and since when.
public enum ModelState: Sendable, Equatable {
  case missing
  case checking
  case compiling
  case specialising
  case warming
  case ready
  case failed(String)

  /// What may happen to a model.
  public enum Event: Sendable, Equatable {
    case bundleChosen
    case filesSound
    case compiled
    case loaded
    case warmed
    case broke(String)
    case removed
    /// Other compute units: the compiled model stays, it is specialised anew.
    case unitsChanged
  }

  /// The state after an event, or nil where the event cannot happen: then nothing changes.
  ///
  /// A bundle may be chosen, removed, or break at any time; all else goes forward step by step.
  public func after(_ event: Event) -> ModelState? {
    switch (self, event) {
    case (_, .bundleChosen): .checking
    case (_, .removed): .missing
    case (.missing, .broke): nil
    case (_, .broke(let why)): .failed(why)
    case (.checking, .filesSound): .compiling
    case (.compiling, .compiled): .specialising
    case (.specialising, .loaded): .warming
    case (.warming, .warmed): .ready
    case (.ready, .unitsChanged), (.failed, .unitsChanged): .specialising
    default: nil
    }
  }

  public var isBusy: Bool {
    switch self {
    case .checking, .compiling, .specialising, .warming: true
    case .missing, .ready, .failed: false
    }
  }

  /// As the screen says it.
  public var title: String {
    switch self {
    case .missing: "No model"
    case .checking: "Checking the files"
    case .compiling: "Compiling"
    case .specialising: "Specialising for this device"
    case .warming: "Warming up"
    case .ready: "Ready"
    case .failed(let why): why
    }
  }
}

/// A state with the moments of its changes; times in seconds of any one clock.
public struct ModelProgress: Sendable, Equatable {
  public private(set) var state = ModelState.missing
  /// When the present state began.
  public private(set) var since: Double
  /// Seconds that each step of the last way took, in order.
  public private(set) var steps: [(title: String, seconds: Double)] = []

  public init(now: Double) { since = now }

  /// Applies an event; false when it cannot happen now.
  @discardableResult
  public mutating func apply(_ event: ModelState.Event, now: Double) -> Bool {
    guard let next = state.after(event) else { return false }
    if event == .bundleChosen || event == .unitsChanged { steps = [] }
    if state.isBusy { steps.append((state.title, now - since)) }
    state = next
    since = now
    return true
  }

  public static func == (first: ModelProgress, second: ModelProgress) -> Bool {
    first.state == second.state && first.since == second.since
  }
}
