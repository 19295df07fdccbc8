import Foundation

/// One tap over all golden clips: what a row of the replay shows.
public struct TapResult: Sendable, Equatable {
  public let tap: String
  public let kind: String
  /// dB over all clips; NaN where shapes differ or a value is NaN; nil where the runner cannot
  /// reach the tap.
  public let psnrDB: Double?
  public let largestDifference: Double?
  /// What the verdict of this row rests on; nil: the bundle states no such gate.
  public let gateDB: Double?

  /// Nil where there is no figure or no gate.
  public var passed: Bool? {
    guard let psnrDB, let gateDB else { return nil }
    return psnrDB >= gateDB
  }
}

/// The golden clips of a bundle through a runner, held to the bundle's own gates.
public struct ReplayResult: Sendable, Equatable {
  public struct Clip: Sendable, Equatable {
    public let id: String
    public let psnrDB: Double
    public let transcript: String
    public let expected: String
  }

  public let runtime: String
  public let units: ComputeUnits?
  public let clips: [Clip]
  /// In the manifest's order, logits last.
  public let taps: [TapResult]
  /// Share of all frames with the same best token.
  public let argmaxAgreement: Double
  public let argmaxGate: Double?
  /// Whether a transcript that changed fails: only where the gate on WER leaves no room for it.
  public let transcriptsMustAgree: Bool
  /// Clips whose logits have another shape than the reference's.
  public let misshapen: [String]

  public var changedTranscripts: [Clip] { clips.filter { $0.transcript != $0.expected } }
  public var logits: TapResult? { taps.last { $0.tap == "logits" } }

  /// One line per gate that does not hold.
  public var failures: [String] {
    var lines = misshapen.map { "\($0): logits of another shape than the reference's" }
    for row in taps where row.passed == false {
      lines.append("\(row.tap): PSNR \(decibels(row.psnrDB)), must be >= \(decibels(row.gateDB))")
    }
    if let gate = argmaxGate, !(argmaxAgreement >= gate) {
      lines.append("argmax agreement \(argmaxAgreement), must be >= \(gate)")
    }
    if transcriptsMustAgree {
      lines += changedTranscripts.map { "\($0.id): '\($0.transcript)', expected '\($0.expected)'" }
    }
    return lines
  }

  /// Whether anything was judged at all: a bundle without gates passes nothing.
  public var isJudged: Bool { logits?.gateDB != nil || argmaxGate != nil || transcriptsMustAgree }
  public var passed: Bool { isJudged && failures.isEmpty }

  /// The first tap that is not the reference's, in the order of computing.
  public var firstDiverging: TapResult? {
    taps.first { row in row.psnrDB.map { !($0 >= row.gateDB ?? divergesBelow) } ?? false }
  }
}

// A tap below this is broken in any scheme; for bundles without a PSNR gate of their own.
private let divergesBelow = 40.0

func decibels(_ value: Double?) -> String {
  guard let value else { return "none" }
  return value.isFinite ? String(format: "%.1f dB", value) : "\(value) dB"
}

/// Runs every golden clip and compares all taps that the runner can reach.
///
/// The gate of each tap is that of the logits. `progress` is told the share that is done. Raises
/// LpaError for clips that cannot be read, and what the runner raises.
public func replay(
  _ bundle: LPABundle, on runner: some ModelRunner,
  progress: @Sendable (Double) -> Void = { _ in }
) async throws -> ReplayResult {
  let manifest = bundle.manifest
  let vocabulary = try bundle.vocabulary()
  let names = manifest.taps.map(\.name)
  let wanted = runner.reachableTaps.intersection(names).subtracting(["logits"])
  var pairs: [String: [(found: Matrix, expected: Matrix)]] = [:]
  var clips: [ReplayResult.Clip] = []
  var misshapen: [String] = []
  let golden = try bundle.goldenClips()
  for (index, clip) in golden.enumerated() {
    let result = try await runner.run(bundle.waveform(of: clip), taps: wanted)
    var psnrOfLogits = Double.nan
    for (tap, found) in result.taps.merging(["logits": result.logits], uniquingKeysWith: { $1 })
    where clip.taps[tap] != nil {
      let expected = try bundle.reference(of: clip, tap: tap)
      pairs[tap, default: []].append((found, expected))
      guard tap == "logits" else { continue }
      if sameShape(found, expected) {
        psnrOfLogits = try psnr(found.values, expected: expected.values)
      } else {
        misshapen.append(clip.id)
      }
    }
    clips.append(
      ReplayResult.Clip(
        id: clip.id, psnrDB: psnrOfLogits, transcript: try vocabulary.text(result.logits),
        expected: clip.transcript))
    progress(Double(index + 1) / Double(golden.count))
  }
  let whole = (pairs["logits"] ?? []).filter(sameShape)
  let frames = whole.reduce(0) { $0 + $1.expected.rows }
  let agreeing = whole.reduce(0) { $0 + agreeingRows($1.found, $1.expected) }
  return ReplayResult(
    runtime: runner.runtime, units: runner.units, clips: clips,
    taps: try manifest.taps.map { tap in
      try row(tap, pairs[tap.name], gate: manifest.gates.psnrDB)
    },
    argmaxAgreement: frames == 0 ? .nan : Double(agreeing) / Double(frames),
    argmaxGate: manifest.gates.argmaxAgreement,
    transcriptsMustAgree: manifest.gates.werDifferencePoints == 0, misshapen: misshapen)
}

private func sameShape(_ found: Matrix, _ expected: Matrix) -> Bool {
  found.rows == expected.rows && found.columns == expected.columns
}

private func row(
  _ tap: Manifest.Tap, _ pairs: [(found: Matrix, expected: Matrix)]?, gate: Double?
) throws -> TapResult {
  guard let pairs else {
    return TapResult(
      tap: tap.name, kind: tap.kind, psnrDB: nil, largestDifference: nil, gateDB: gate)
  }
  guard pairs.allSatisfy(sameShape) else {
    return TapResult(
      tap: tap.name, kind: tap.kind, psnrDB: .nan, largestDifference: .nan, gateDB: gate)
  }
  let (found, expected) = (pairs.flatMap(\.found.values), pairs.flatMap(\.expected.values))
  return TapResult(
    tap: tap.name, kind: tap.kind, psnrDB: try psnr(found, expected: expected),
    largestDifference: maxDifference(found, expected), gateDB: gate)
}
