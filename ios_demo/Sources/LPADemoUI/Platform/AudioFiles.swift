@preconcurrency import AVFoundation
import Foundation
import LPACore

/// Files of any format that the system decodes; WAV and FLAC by this package's own decoders, so that
/// golden clips and recordings come out bit by bit as on the desktop.
public struct AudioFiles: AudioReading {
  public init() {}

  public func read(_ file: URL) throws -> Pcm {
    try withAccess(to: file) { try opened(file) }
  }

  private func opened(_ file: URL) throws -> Pcm {
    guard let handle = try? FileHandle(forReadingFrom: file),
      let head = try? handle.read(upToCount: 4)
    else { throw LpaError("\(file.lastPathComponent): cannot be read") }
    if [Data("RIFF".utf8), Data("fLaC".utf8)].contains(head) {
      return try Pcm(parsing: Data(contentsOf: file))
    }
    return try decoded(file)
  }

  private func decoded(_ place: URL) throws -> Pcm {
    let name = place.lastPathComponent
    guard let file = try? AVAudioFile(forReading: place) else {
      throw LpaError("\(name): expected an audio file, found something else or a damaged one")
    }
    let format = file.processingFormat
    guard Double(file.length) <= Pcm.maxSeconds * format.sampleRate else {
      throw LpaError("\(name): longer than \(Int(Pcm.maxSeconds / 3600)) hours; split the recording")
    }
    guard file.length > 0,
      let buffer = AVAudioPCMBuffer(
        pcmFormat: format, frameCapacity: AVAudioFrameCount(file.length))
    else { throw LpaError("\(name): expected audio, found 0 samples") }
    do {
      try file.read(into: buffer)
    } catch {
      throw LpaError("\(name): damaged, it cannot be decoded")
    }
    guard let channels = buffer.floatChannelData else {
      throw LpaError("\(name): cannot be decoded to samples")
    }
    let planes = (0..<Int(format.channelCount)).map { channel in
      Array(UnsafeBufferPointer(start: channels[channel], count: Int(buffer.frameLength)))
    }
    return Pcm(sampleRate: Int(format.sampleRate), channels: planes)
  }
}

/// Plays parts of a recording.
@MainActor public final class Player: AudioPlaying {
  private var player: AVAudioPlayer?

  public init() {}

  public func play(_ samples: [Float], rate: Int, from start: Double, to end: Double) throws {
    stop()
    let first = max(0, min(samples.count, Int(start * Double(rate))))
    let last = max(first, min(samples.count, Int(end * Double(rate))))
    guard last > first else { return }
    let part = wavData(Array(samples[first..<last]), sampleRate: rate)
    guard let player = try? AVAudioPlayer(data: part) else {
      throw LpaError("this part cannot be played")
    }
    self.player = player
    player.play()
  }

  public func stop() {
    player?.stop()
    player = nil
  }
}
