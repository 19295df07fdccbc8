/// Seconds from which a recording is cut where nobody asks for another length; `lpa-transcribe` has
/// the same.
public let automaticCutSeconds = 20

/// A piece of a long recording: the samples that a model hears, and the frames that are kept.
public struct Piece: Sendable, Equatable {
  /// Samples of the recording, end exclusive.
  public let start: Int
  public let end: Int
  /// Frames of the whole recording that this piece speaks for, end exclusive.
  public let firstFrame: Int
  public let lastFrame: Int
}

/// Cuts a recording into pieces of at most `longest` samples, at its quietest moments.
///
/// Pieces begin at whole frames, so that their frames are those of the whole recording. Each frame
/// belongs to exactly one piece: no word is lost or doubled, and times go on. A piece hears
/// `overlap` frames more on either side than it speaks for, so that words beside a seam have
/// their context. The quiet of a seam is the energy of `quiet` frames around it, in whole numbers,
/// so that every implementation finds the same seams. Of equally quiet frames the last run counts,
/// and the seam lies in its middle: a model speaks a little before or after the sound.
///
/// Raises LpaError when `longest` leaves no room for the overlap, and for no frame at all.
public func pieces(
  _ waveform: [Float], longest: Int, frames arithmetic: FrameArithmetic, overlap: Int = 25,
  quiet: Int = 20
) throws -> [Piece] {
  let (hop, field) = (arithmetic.hop, arithmetic.receptiveField)
  let total = arithmetic.frames(waveform.count)
  guard total > 0 else {
    throw LpaError("\(waveform.count) samples give no frame; one takes \(field)")
  }
  if waveform.count <= longest {
    return [Piece(start: 0, end: waveform.count, firstFrame: 0, lastFrame: total)]
  }
  let most = arithmetic.frames(longest)
  guard most > 4 * overlap else {
    throw LpaError(
      "pieces of \(longest) samples are too short to be cut with an overlap of \(overlap) frames")
  }
  let energy = energySums(waveform, hop: hop)
  func loudness(_ frame: Int) -> Int {
    energy[min(frame + quiet / 2, energy.count - 1)] - energy[max(frame - quiet / 2, 0)]
  }
  var seams = [0]
  while let begin = seams.last, total - max(begin - overlap, 0) > most {
    let latest = max(begin - overlap, 0) + most - overlap
    let allowed = (begin + (latest - begin) / 2 + 1)...latest
    seams.append(middleOfLastMinimum(allowed, loudness))
  }
  return (seams + [total]).adjacent().map { first, last in
    let (heard, until) = (max(first - overlap, 0), min(last + overlap, total))
    return Piece(
      start: heard * hop, end: min((until - 1) * hop + field, waveform.count), firstFrame: first,
      lastFrame: last)
  }
}

private func middleOfLastMinimum(_ frames: ClosedRange<Int>, _ loudness: (Int) -> Int) -> Int {
  var last = frames.upperBound
  for frame in frames.reversed() where loudness(frame) < loudness(last) { last = frame }
  var first = last
  while first > frames.lowerBound, loudness(first - 1) == loudness(last) { first -= 1 }
  return (first + last) / 2
}

/// Sums of squares of 16-bit samples before each frame: entry f covers all samples before f * hop.
private func energySums(_ waveform: [Float], hop: Int) -> [Int] {
  var sums = [0]
  sums.reserveCapacity(waveform.count / hop + 1)
  for start in stride(from: 0, through: waveform.count - hop, by: hop) {
    let energy = waveform[start..<start + hop].reduce(0) { sum, sample in
      let level = Int((Double(sample) * 32767).rounded(.toNearestOrEven))
      return sum + level * level
    }
    sums.append(sums[sums.count - 1] + energy)
  }
  return sums
}

extension Array {
  fileprivate func adjacent() -> [(Element, Element)] { Array<(Element, Element)>(zip(self, dropFirst())) }
}
