/// Word errors of transcripts: how many of which kind, and in which utterances.
public struct WordErrors: Sendable, Equatable {
  public let words: Int
  public let substitutions: Int
  public let deletions: Int
  public let insertions: Int
  public let perUtterance: [Int]

  public var errors: Int { substitutions + deletions + insertions }
  /// Percent; above 100 where insertions abound.
  public var wer: Double { 100 * Double(errors) / Double(words) }

  /// Errors of `transcripts` against `texts`, both brought through the rule first.
  ///
  /// Raises LpaError when the texts hold no word at all, or there are not as many of both.
  public init(texts: [String], transcripts: [String], rule: TextRule) throws {
    guard texts.count == transcripts.count else {
      throw LpaError("\(transcripts.count) transcripts for \(texts.count) texts")
    }
    let references = texts.map { splitWords(rule($0)) }
    let counts = zip(references, transcripts).map { alignment(of: $0, with: splitWords(rule($1))) }
    words = references.reduce(0) { $0 + $1.count }
    guard words > 0 else { throw LpaError("a WER needs at least one reference word") }
    substitutions = counts.reduce(0) { $0 + $1.substitutions }
    deletions = counts.reduce(0) { $0 + $1.deletions }
    insertions = counts.reduce(0) { $0 + $1.insertions }
    perUtterance = counts.map { $0.substitutions + $0.deletions + $0.insertions }
  }
}

/// The kinds of errors in a best alignment. Of several equally good ones that of rapidfuzz, on
/// which jiwer rests: what begins and ends alike is set aside, then, from the end, a deletion is
/// taken before an insertion, an insertion before a substitution.
private func alignment(
  of reference: [String], with hypothesis: [String]
) -> (substitutions: Int, deletions: Int, insertions: Int) {
  // Bytes: Swift takes composed and decomposed letters for equal, jiwer does not.
  var expected = reference.map { Array($0.utf8) }[...]
  var found = hypothesis.map { Array($0.utf8) }[...]
  while let first = expected.first, first == found.first {
    expected.removeFirst()
    found.removeFirst()
  }
  while let last = expected.last, last == found.last {
    expected.removeLast()
    found.removeLast()
  }
  let (rows, columns) = (Array(found), Array(expected))
  // Row by row: distance[row * width + column] of the first so many words of each.
  let width = columns.count + 1
  var distance = [Int32](repeating: 0, count: (rows.count + 1) * width)
  for column in 0..<width { distance[column] = Int32(column) }
  for row in 0..<rows.count {
    distance[(row + 1) * width] = Int32(row + 1)
    for column in 0..<columns.count {
      let above = row * width + column
      let substitution = distance[above] + (rows[row] == columns[column] ? 0 : 1)
      distance[above + width + 1] = min(
        substitution, distance[above + 1] + 1, distance[above + width] + 1)
    }
  }
  var (row, column) = (rows.count, columns.count)
  var counts = (substitutions: 0, deletions: 0, insertions: 0)
  while row > 0, column > 0 {
    let here = row * width + column
    if distance[here] == distance[here - 1] + 1 {
      counts.deletions += 1
      column -= 1
    } else if row > 1, distance[here - width] == distance[here - width - 1] - 1 {
      counts.insertions += 1
      row -= 1
    } else {
      row -= 1
      column -= 1
      if rows[row] != columns[column] { counts.substitutions += 1 }
    }
  }
  counts.deletions += column
  counts.insertions += row
  return counts
}
