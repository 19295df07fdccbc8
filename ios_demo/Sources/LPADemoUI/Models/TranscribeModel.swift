import Foundation
import LPACore
import Observation

/// What a microphone reports.
public enum AudioEvent: Sendable, Equatable {
  case samples([Float], rate: Int)
  /// A call or another app took the microphone; what was recorded is kept.
  case interrupted
  case resumed
  /// Headphones came or went.
  case routeChanged(String)
  case failed(String)
}

public protocol AudioInput: Sendable {
  /// Begins to record. Raises LpaError without permission, and for an input without a format.
  func start() async throws -> AsyncStream<AudioEvent>
  func stop()
}

public protocol AudioReading: Sendable {
  /// Sound of any format that the system knows. Raises LpaError.
  func read(_ file: URL) throws -> Pcm
}

@MainActor public protocol AudioPlaying {
  /// Plays a part of a recording, times in seconds. Raises LpaError.
  func play(_ samples: [Float], rate: Int, from start: Double, to end: Double) throws
  func stop()
}

/// The screen that listens and reads files.
@MainActor @Observable public final class TranscribeModel {
  public enum Phase: Sendable, Equatable {
    case idle
    case recording
    /// The share that is done.
    case working(Double)
    case done
    case failed(String)
  }

  public private(set) var phase = Phase.idle
  /// From 0 (silence) to 1 (full scale).
  public private(set) var level: Float = 0
  public private(set) var recordedSeconds = 0.0
  public private(set) var transcript: Transcript?
  public private(set) var notice: String?
  public private(set) var title = ""
  /// What was transcribed last, at the bundle's rate.
  public private(set) var waveform: [Float] = []

  private let store: ModelStore
  private let input: any AudioInput
  private let reader: any AudioReading
  private let player: any AudioPlaying
  private var recording = Recording()
  private var work: Task<Void, Never>?

  public init(
    store: ModelStore, input: any AudioInput, reader: any AudioReading, player: any AudioPlaying
  ) {
    self.store = store
    self.input = input
    self.reader = reader
    self.player = player
  }

  public var isReady: Bool { store.state == .ready }

  public func record() {
    guard phase != .recording else { return }
    work?.cancel()
    player.stop()
    recording = Recording()
    (transcript, notice, recordedSeconds, level) = (nil, nil, 0, 0)
    phase = .recording
    work = Task {
      do {
        for await event in try await input.start() { take(event) }
      } catch {
        phase = .failed(error.oneLine)
      }
    }
  }

  /// Ends the recording and transcribes it.
  public func stop() {
    guard phase == .recording else { return }
    input.stop()
    work?.cancel()
    level = 0
    let recording = recording
    transcribe("recording") { try recording.waveform(at: $0) }
  }

  public func importFile(_ file: URL) {
    if phase == .recording { input.stop() }
    work?.cancel()
    player.stop()
    notice = nil
    let reader = reader
    let name = file.lastPathComponent
    transcribe(name) { rate in
      try LPACore.waveform(of: reader.read(file), at: rate, name: name)
    }
  }

  public func cancel() {
    if phase == .recording { input.stop() }
    work?.cancel()
    phase = .idle
  }

  /// Plays a word with a little of what is around it.
  public func play(_ word: Word) {
    guard let rate = store.bundle?.manifest.sampleRate, !waveform.isEmpty else { return }
    do {
      try player.play(waveform, rate: rate, from: max(0, word.start - 0.1), to: word.end + 0.15)
    } catch {
      notice = error.oneLine
    }
  }

  public func finished() async { await work?.value }

  private func take(_ event: AudioEvent) {
    guard phase == .recording else { return }
    switch event {
    case .samples(let samples, let rate):
      recording.append(samples, rate: rate)
      recordedSeconds = recording.seconds
      level = LPACore.level(samples)
    case .interrupted:
      level = 0
      notice = "Interrupted; what was said before is kept"
    case .resumed: notice = nil
    case .routeChanged(let name): notice = "Now listening through \(name)"
    case .failed(let why):
      input.stop()
      phase = .failed(why)
    }
  }

  private func transcribe(_ name: String, _ load: @escaping @Sendable (Int) throws -> [Float]) {
    guard let bundle = store.bundle, let runner = store.runner else {
      phase = .failed("The model is not ready: see the screen Model")
      return
    }
    title = name
    transcript = nil
    phase = .working(0)
    work = Task {
      do {
        let (samples, vocabulary) = try await Task.detached {
          (try load(bundle.manifest.sampleRate), try bundle.vocabulary())
        }.value
        waveform = samples
        let found = try await LPACore.transcribe(
          samples, manifest: bundle.manifest, vocabulary: vocabulary, runner: runner,
          cut: automaticCutSeconds * bundle.manifest.sampleRate
        ) { partial, share in
          Task { @MainActor in self.heard(partial, share) }
        }
        try Task.checkCancellation()
        transcript = found
        phase = .done
      } catch {
        guard !Task.isCancelled else { return }
        phase = .failed(error.oneLine)
      }
    }
  }

  private func heard(_ partial: Transcript, _ share: Double) {
    guard case .working = phase else { return }
    transcript = partial
    phase = .working(share)
  }
}
