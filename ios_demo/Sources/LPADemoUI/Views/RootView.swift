import LPACore
import SwiftUI

/// Everything that the screens show, made once.
@MainActor @Observable public final class DemoModels {
  public let store: ModelStore
  public let transcribe: TranscribeModel
  public let replay: ReplayModel
  public let benchmark: BenchmarkModel
  public let windows: WindowsModel

  public init(
    store: ModelStore, input: any AudioInput = Microphone(), reader: any AudioReading = AudioFiles(),
    player: any AudioPlaying = Player()
  ) {
    self.store = store
    let transcribe = TranscribeModel(store: store, input: input, reader: reader, player: player)
    self.transcribe = transcribe
    replay = ReplayModel(store: store)
    benchmark = BenchmarkModel(store: store)
    windows = WindowsModel(store: store) { transcribe.waveform }
  }
}

/// The five screens.
public struct RootView: View {
  private let models: DemoModels
  @Environment(\.scenePhase) private var scenePhase

  public init(models: DemoModels) { self.models = models }

  public var body: some View {
    TabView {
      TranscribeView(model: models.transcribe)
        .tabItem { Label("Transcribe", systemImage: "waveform") }
      ModelView(store: models.store)
        .tabItem { Label("Model", systemImage: "cpu") }
      ReplayView(model: models.replay)
        .tabItem { Label("Replay", systemImage: "checkmark.seal") }
      BenchmarkView(model: models.benchmark)
        .tabItem { Label("Benchmark", systemImage: "speedometer") }
      WindowsView(model: models.windows)
        .tabItem { Label("Windows", systemImage: "square.grid.3x3") }
    }
    .onChange(of: scenePhase) { _, phase in
      if phase == .background { models.store.enteredBackground() }
    }
  }
}
