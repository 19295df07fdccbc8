import Foundation
import Testing

@testable import LPACore

@Suite struct FlacIsBitExact {
  @Test func everyKindOfFrame() throws {
    let entries = try Vectors.entries("flac.json")
    #expect(entries.count > 70)
    for entry in entries {
      let name = entry.string("file")
      let decoded = try FlacDecoder.decode(Vectors.data("flac/\(name)"))
      #expect(decoded.sampleRate == entry.integer("sample_rate"), "\(name)")
      #expect(decoded.bitsPerSample == entry.integer("bits"), "\(name)")
      #expect(decoded.channels.count == entry.integer("channels"), "\(name)")
      #expect(digest(decoded.channels) == entry.string("sha256"), "\(name)")
    }
  }

  @Test func everyDemoClip() throws {
    let entries = try Vectors.entries("demo-clips.json")
    #expect(entries.count == 48)
    for entry in entries {
      let name = entry.string("file")
      let data = try Data(contentsOf: Vectors.demo.appendingPathComponent(name))
      let decoded = try FlacDecoder.decode(data)
      #expect(decoded.channels.first?.count == entry.integer("samples"), "\(name)")
      #expect(digest(decoded.channels) == entry.string("sha256"), "\(name)")
    }
  }

  @Test func damagedFilesAreRefusedForTheRightReason() throws {
    for entry in try Vectors.entries("flac-damaged.json") {
      let name = entry.string("file")
      let data = try Vectors.data("flac/\(name)")
      let found = message { _ = try Pcm(parsing: data) }
      #expect(found?.contains(entry.string("problem")) == true, "\(name): \(found ?? "taken")")
    }
  }

  @Test func noDamageCrashes() throws {
    let data = try Vectors.data("flac/lpc-08.flac")
    let right = try FlacDecoder.decode(data)
    for position in 0..<data.count {
      var damaged = data
      damaged[position] ^= UInt8(1 << (position % 8))
      if let decoded = try? FlacDecoder.decode(damaged), position > 42 {
        Issue.record("byte \(position): \(decoded == right ? "ignored" : "wrong samples") taken")
      }
      _ = try? FlacDecoder.decode(data.prefix(position))
    }
  }

  @Test func daysOfSilenceAreRefusedBeforeDecoding() throws {
    let data = try Vectors.data("flac/two-hundred-frames.flac")
    #expect(message { _ = try FlacDecoder.decode(data, maxSeconds: 0.1) }?.contains("hours") == true)
    let open = try Vectors.data("flac/length-not-known.flac")
    #expect(message { _ = try FlacDecoder.decode(open, maxSeconds: 0.1) }?.contains("hours") == true)
  }
}

@Suite struct WavFiles {
  @Test func samplesAreThoseOfLibsndfile() throws {
    for entry in try Vectors.entries("wav.json") {
      let name = entry.string("file")
      let decoded = try Pcm(parsing: Vectors.data("wav/\(name)"))
      #expect(decoded.sampleRate == entry.integer("sample_rate"), "\(name)")
      #expect(decoded.channels.count == entry.integer("channels"), "\(name)")
      #expect(digest(decoded.channels) == entry.string("sha256"), "\(name)")
    }
  }

  @Test func noDamageCrashes() throws {
    let data = try Vectors.data("wav/pcm_16-2.wav")
    for position in 0..<data.count {
      var damaged = data
      damaged[position] ^= 0xff
      _ = try? Pcm(parsing: damaged)
      _ = try? Pcm(parsing: data.prefix(position))
    }
  }

  @Test(arguments: [
    ("", "empty file"), ("RIFF", "no WAVE"), ("RIFF....WAVEdata\u{4}\0\0\0abcd", "before its format"),
    ("RIFF....WAVE", "no data"), ("OggS", "expected WAV or FLAC"),
  ])
  func whatIsNoSoundIsRefused(text: String, problem: String) {
    let found = message { _ = try Pcm(parsing: Data(text.utf8)) }
    #expect(found?.contains(problem) == true, "\(found ?? "taken")")
  }
}

@Suite struct Waveforms {
  @Test func channelsAreAveraged() throws {
    let pcm = Pcm(sampleRate: 16_000, channels: [[1, 0.5, -1], [0, 0.5, 1]])
    #expect(try waveform(of: pcm, at: 16_000, name: "x") == [0.5, 0.5, 0])
  }

  @Test(arguments: [
    ([Float](), "0 samples"), ([1], "single sample"), ([0.25, 0.25, 0.25], "silent"),
    ([0, .nan, 1], "NaN"), ([0, .infinity], "NaN or infinite"),
  ])
  func whatIsNoSpeechIsRefused(samples: [Float], problem: String) {
    let found = message {
      _ = try waveform(of: Pcm(sampleRate: 16_000, channels: [samples]), at: 16_000, name: "clip")
    }
    #expect(found?.hasPrefix("clip: ") == true)
    #expect(found?.contains(problem) == true)
  }

  @Test func channelsThatCancelEachOtherAreRefused() {
    let wave = (0..<100).map { Float(sin(Double($0))) }
    let pcm = Pcm(sampleRate: 16_000, channels: [wave, wave.map { -$0 }])
    let found = message { _ = try waveform(of: pcm, at: 16_000, name: "clip") }
    #expect(found?.contains("opposite phase") == true)
    let silent = Pcm(sampleRate: 16_000, channels: [[0, 0, 0], [0, 0, 0]])
    let other = message { _ = try waveform(of: silent, at: 16_000, name: "clip") }
    #expect(other?.contains("silent, every sample") == true)
  }

  @Test func aFileThatBreaksOffSaysHowMuchIsMissing() throws {
    let whole = wavData([Float](repeating: 0.5, count: 16_000), sampleRate: 16_000)
    #expect(try Pcm(parsing: whole).missingSeconds == 0)
    let half = try Pcm(parsing: whole.prefix(44 + 16_000))
    #expect(half.mono().count == 8000 && half.missingSeconds == 0.5)
  }

  @Test func eightChannelsAt96KilohertzBecomeMonoAt16() throws {
    let pcm = try Pcm(parsing: Vectors.data("wav/pcm_24-8.wav"))
    #expect(pcm.channels.count == 8 && pcm.sampleRate == 96_000)
    #expect(try waveform(of: pcm, at: 16_000, name: "x").count == 7)
  }

  @Test func aMissingFileAndAFolderAreNamed() {
    let missing = message { _ = try loadWaveform(URL(fileURLWithPath: "/nowhere.wav"), at: 16_000) }
    #expect(missing?.contains("no such file") == true)
    let folder = message { _ = try loadWaveform(Vectors.file("wav"), at: 16_000) }
    #expect(folder?.contains("found a folder") == true)
  }
}

@Suite struct Resampling {
  @Test func agreesWithSoxrOnSpeechWithinTheStatedBound() throws {
    for entry in try Vectors.entries("resampled.json") {
      let pcm = try Pcm(parsing: Vectors.data("resampled/\(entry.string("file"))"))
      let expected = try NpyArray(parsing: Vectors.data("resampled/\(entry.string("expected"))"))
      let found = try resample(pcm.mono(), from: pcm.sampleRate, to: 16_000)
      #expect(found.count == expected.values.count)
      let level = try psnr(found, expected: expected.values)
      #expect(level >= entry["psnr_db"]?.figure ?? .infinity, "\(pcm.sampleRate) Hz: \(level) dB")
    }
  }

  @Test func theSameRateIsLeftAlone() throws {
    #expect(try resample([1, 2, 3], from: 16_000, to: 16_000) == [1, 2, 3])
  }

  @Test func whatLiesAboveTheNewBandIsRemovedNotFolded() throws {
    // 13 kHz would come back as 3 kHz.
    let tone = (0..<48_000).map { Float(sin(2 * .pi * 13_000 * Double($0) / 48_000)) }
    let found = try resample(tone, from: 48_000, to: 16_000)
    #expect(found[500..<15_500].allSatisfy { abs($0) < 2e-6 })
  }

  @Test func aConstantStaysOne() throws {
    let found = try resample([Float](repeating: 0.5, count: 44_100), from: 44_100, to: 16_000)
    #expect(found[500..<15_500].allSatisfy { abs($0 - 0.5) < 1e-6 })
  }

  @Test func impossibleRatesAreRefused() {
    #expect(message { _ = try resample([1, 2], from: 3, to: 16_000) }?.contains("3 Hz") == true)
  }
}
