import Foundation
import Testing

@testable import LPACore

@Suite struct Digests {
  @Test func thoseOfHashlib() throws {
    for entry in try Vectors.entries("digests.json") {
      let data = Data((0..<entry.integer("length")).map { UInt8($0 * 7 % 251) })
      #expect(Sha256.of(data) == entry.string("sha256"))
      // In pieces of no round length too.
      var hash = Sha256()
      for start in stride(from: 0, to: data.count, by: 37) {
        hash.update(data[start..<min(start + 37, data.count)])
      }
      #expect(hash.hexadecimalDigest() == entry.string("sha256"))
    }
  }

  @Test func dataIsHashedAsLpaValidateDoes() throws {
    // json.dumps(["é\u{1f600}", "a\"b", sha256 of the file]) in ASCII, by Python.
    #expect(JSONValue.quoted("é\u{1f600}", asciiOnly: true) == "\"\\u00e9\\ud83d\\ude00\"")
    #expect(JSONValue.quoted("a\"b\n", asciiOnly: true) == "\"a\\\"b\\n\"")
  }
}

@Suite struct StrictJSON {
  @Test func readsAndRefusesAsPythonDoes() throws {
    for entry in try Vectors.entries("json.json") {
      let text = entry.string("text")
      let found = try? JSONValue(parsing: Data(text.utf8))
      #expect(found == entry["value"]?["read"], "\(text)")
    }
  }

  @Test func nestingIsBounded() {
    let deep = String(repeating: "[", count: 100_000)
    #expect(message { _ = try JSONValue(parsing: Data(deep.utf8)) }?.contains("deeply") == true)
  }

  @Test func whatIsWrittenIsReadAgain() throws {
    let value = JSONValue.object([
      "b": .array([.integer(1), .number(0.1), .number(3), .null, .bool(true), .array([])]),
      "a": .string("x\"\\\n\u{1}é"), "c": .object([:]),
    ])
    #expect(try JSONValue(parsing: Data(value.rendered.utf8)) == value)
    #expect(value.rendered.hasPrefix("{\n \"a\""))
  }

  @Test func figuresBeyondNumbersSurvive() throws {
    for value in [1.5, Double.infinity, -Double.infinity] {
      let text = JSONValue.array([JSONValue(figure: value)]).rendered
      #expect(try JSONValue(parsing: Data(text.utf8)).items.first?.figure == value)
    }
    #expect(JSONValue(figure: .nan).figure?.isNaN == true)
  }

  @Test func textThatIsNoUTF8IsRefused() {
    #expect(message { _ = try JSONValue(parsing: Data([0x22, 0xff, 0x22])) } == "not UTF-8")
  }
}

@Suite struct Arrays {
  @Test func goldenValuesAreRead() throws {
    let array = try NpyArray(parsing: Vectors.data("bundle/golden/demo0008.logits.npy"))
    #expect(array.shape.count == 2 && array.shape[1] == 29)
    #expect(try array.matrix().rows == array.shape[0])
  }

  @Test func noDamageCrashes() throws {
    let data = try Vectors.data("bundle/golden/demo0008.logits.npy")
    for position in 0..<200 {
      var damaged = data
      damaged[position] ^= 0xff
      _ = try? NpyArray(parsing: damaged)
      #expect(throws: LpaError.self) { try NpyArray(parsing: data.prefix(position)) }
    }
  }

  @Test func othersAreRefused() {
    for (header, problem) in [
      ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", "<f4"),
      ("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", "C order"),
      ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "4 bytes"),
      ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "no shape"),
      ("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8), }", "impossible"),
    ] {
      var data = Data([0x93]) + Data("NUMPY".utf8) + Data([1, 0, UInt8(header.utf8.count), 0])
      data += Data(header.utf8) + Data(count: 4)
      #expect(message { _ = try NpyArray(parsing: data) }?.contains(problem) == true, "\(problem)")
    }
  }
}

@Suite struct Measures {
  @Test func thoseOfNumpyInFloat64() throws {
    for entry in try Vectors.entries("measures.json") {
      let (expected, found) = (entry["expected"]?.floats ?? [], entry["found"]?.floats ?? [])
      let level = try psnr(found, expected: expected)
      let wanted = try #require(entry["psnr_db"]?.figure)
      #expect(level == wanted || abs(level - wanted) < 1e-6)
      let largest = try #require(entry["largest"]?.figure)
      #expect(abs(maxDifference(found, expected) - largest) < 1e-9)
      let rows = expected.count / entry.integer("columns")
      let agreeing = agreeingRows(
        try Matrix(rows: rows, columns: entry.integer("columns"), values: found),
        try Matrix(rows: rows, columns: entry.integer("columns"), values: expected))
      #expect(agreeing == entry.integer("agreeing"))
    }
  }

  @Test func aNaNIsNeverGood() throws {
    #expect(try psnr([.nan, 1], expected: [1, 1]).isNaN)
    #expect(try psnr([1, 1], expected: [.infinity, 1]).isNaN)
    #expect(maxDifference([.nan], [1]).isNaN)
  }

  @Test func otherLengthsAreNoComparison() {
    #expect(message { _ = try psnr([1], expected: [1, 2]) } != nil)
    #expect(message { _ = try psnr([], expected: []) } != nil)
  }

  @Test func percentilesLieBetweenNeighbours() {
    #expect(percentile([4, 1, 3, 2], 0.5) == 2.5)
    #expect(percentile([1, 2, 3], 1) == 3)
    #expect(percentile([], 0.5).isNaN)
  }
}

@Suite struct Frames {
  @Test func countsAreThoseOfSlidingWindows() throws {
    for entry in try Vectors.entries("frames.json") {
      let arithmetic = try Self.arithmetic(entry)
      #expect(arithmetic.frames(entry.integer("samples")) == entry.integer("frames"))
    }
  }

  /// As a manifest states it; hop and receptive field found by trying.
  private static func arithmetic(_ entry: JSONValue) throws -> FrameArithmetic {
    guard case .object(var members) = entry else { throw LpaError("no object") }
    members["hop"] = .integer((entry["strides"]?.integers ?? []).reduce(1, *))
    let kept = members.filter { FrameArithmetic.keys.contains($0.key) }
    for field in 1...2000 {
      let stated = kept.merging(["receptive_field": .integer(field)]) { $1 }
      if let found = try? FrameArithmetic(Fields(.object(stated), place: "frames")) { return found }
    }
    throw LpaError("no receptive field fits")
  }

  @Test func oneFrameTakesTheReceptiveField() {
    let arithmetic = FrameArithmetic(kernels: [400, 3, 3], strides: [160, 2, 1])
    #expect(arithmetic.receptiveField == 1360 && arithmetic.hop == 320)
    #expect(arithmetic.frames(1360) == 1 && arithmetic.frames(1359) == 0)
  }
}

@Suite struct Halves {
  @Test func bitsAreThoseOfNumpy() throws {
    let entries = try Vectors.entries("halves.json")
    #expect(entries.count > 200)
    for entry in entries {
      let value = Float(bitPattern: UInt32(entry.integer("single")))
      let found = halfBits(value)
      if value.isNaN {
        #expect(found & 0x7c00 == 0x7c00 && found & 0x3ff != 0)
      } else {
        #expect(Int(found) == entry.integer("half"), "\(value)")
      }
    }
  }
}

@Suite struct LongRecordings {
  @Test func seamsAreThoseOfLpaTranscribeToTheSample() throws {
    for entry in try Vectors.entries("pieces.json") {
      var samples: [Float] = []
      for clip in entry.list("clips").compactMap(\.text) {
        samples += try loadWaveform(Vectors.demo.appendingPathComponent(clip), at: 16_000)
        samples += [Float](repeating: 0, count: entry.integer("gap"))
      }
      let found = try pieces(
        samples, longest: entry.integer("longest"),
        frames: FrameArithmetic(kernels: [400, 3, 3], strides: [160, 2, 1]))
      let expected = entry.list("pieces").map(\.integers)
      #expect(found.map { [$0.start, $0.end, $0.firstFrame, $0.lastFrame] } == expected)
    }
  }

  @Test func whatCannotBeCutIsRefused() {
    let arithmetic = FrameArithmetic(kernels: [400], strides: [320])
    let short = message { _ = try pieces([1, 2], longest: 100, frames: arithmetic) }
    #expect(short?.contains("no frame") == true)
    let tight = message {
      _ = try pieces([Float](repeating: 1, count: 90_000), longest: 20_000, frames: arithmetic)
    }
    #expect(tight?.contains("too short to be cut") == true)
  }
}
