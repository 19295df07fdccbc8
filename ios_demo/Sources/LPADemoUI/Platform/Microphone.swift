@preconcurrency import AVFoundation
import Foundation
import LPACore

/// The microphone, through interruptions and changes of route.
///
/// A call stops the engine, and headphones change its format: both end a recording in many apps.
/// Here the engine starts again, and samples carry the rate that they came with.
public final class Microphone: AudioInput, @unchecked Sendable {
  private let engine = AVAudioEngine()
  private let lock = NSLock()
  private var continuation: AsyncStream<AudioEvent>.Continuation?
  private var observers: [any NSObjectProtocol] = []

  public init() {}

  public func start() async throws -> AsyncStream<AudioEvent> {
    guard await AVCaptureDevice.requestAccess(for: .audio) else {
      throw LpaError("The microphone is not allowed: Settings, Privacy, Microphone")
    }
    #if os(iOS)
      do {
        let session = AVAudioSession.sharedInstance()
        try session.setCategory(.playAndRecord, mode: .measurement, options: [.defaultToSpeaker])
        try session.setActive(true)
      } catch {
        throw LpaError("The microphone is in use by another app")
      }
    #endif
    let (stream, continuation) = AsyncStream<AudioEvent>.makeStream()
    lock.withLock { self.continuation = continuation }
    observe()
    try begin()
    return stream
  }

  public func stop() {
    engine.inputNode.removeTap(onBus: 0)
    engine.stop()
    for observer in observers { NotificationCenter.default.removeObserver(observer) }
    observers = []
    #if os(iOS)
      try? AVAudioSession.sharedInstance().setActive(false)
    #endif
    lock.withLock {
      continuation?.finish()
      continuation = nil
    }
  }

  private func begin() throws {
    let input = engine.inputNode
    let format = input.outputFormat(forBus: 0)
    // The simulator, and a Bluetooth device on its way out, give 0 Hz: installing a tap crashes then.
    guard format.sampleRate > 0, format.channelCount > 0 else {
      throw LpaError("The microphone has no usable format; choose another input")
    }
    let rate = Int(format.sampleRate)
    input.removeTap(onBus: 0)
    input.installTap(onBus: 0, bufferSize: 4096, format: format) { [weak self] buffer, _ in
      self?.send(.samples(Self.mono(buffer), rate: rate))
    }
    engine.prepare()
    do {
      try engine.start()
    } catch {
      throw LpaError("The microphone does not start")
    }
  }

  private func restart(_ event: AudioEvent) {
    do {
      try begin()
      send(event)
    } catch {
      send(.failed(error.oneLine))
    }
  }

  private func observe() {
    let center = NotificationCenter.default
    observers.append(
      center.addObserver(
        forName: .AVAudioEngineConfigurationChange, object: engine, queue: nil
      ) { [weak self] _ in self?.restart(.routeChanged(Self.routeName)) })
    #if os(iOS)
      observers.append(
        center.addObserver(
          forName: AVAudioSession.interruptionNotification, object: nil, queue: nil
        ) { [weak self] note in
          let raw = note.userInfo?[AVAudioSessionInterruptionTypeKey] as? UInt
          switch raw.flatMap(AVAudioSession.InterruptionType.init) {
          case .began: self?.send(.interrupted)
          case .ended: self?.restart(.resumed)
          default: break
          }
        })
    #endif
  }

  private static var routeName: String {
    #if os(iOS)
      AVAudioSession.sharedInstance().currentRoute.inputs.first?.portName ?? "another input"
    #else
      "another input"
    #endif
  }

  private func send(_ event: AudioEvent) {
    _ = lock.withLock { continuation?.yield(event) }
  }

  private static func mono(_ buffer: AVAudioPCMBuffer) -> [Float] {
    guard let channels = buffer.floatChannelData else { return [] }
    let count = Int(buffer.format.channelCount)
    return (0..<Int(buffer.frameLength)).map { index in
      (0..<count).reduce(Float(0)) { $0 + channels[$1][index] } / Float(count)
    }
  }
}
