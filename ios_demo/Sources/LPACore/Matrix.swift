/// Rows of numbers: (frames, width), row-major.
public struct Matrix: Sendable, Equatable {
  public let rows: Int
  public let columns: Int
  public var values: [Float]

  /// Raises LpaError when the values are not rows x columns.
  public init(rows: Int, columns: Int, values: [Float]) throws {
    guard rows >= 0, columns >= 0, values.count == rows * columns else {
      throw LpaError("\(values.count) values are no matrix of \(rows) x \(columns)")
    }
    self.rows = rows
    self.columns = columns
    self.values = values
  }

  /// The best column of each row, the first of equals; NaN counts as the lowest value.
  public func argmax() -> [Int] {
    guard columns > 0 else { return [] }
    return values.withUnsafeBufferPointer { values in
      (0..<rows).map { row in
        var best = 0
        var highest = -Float.infinity
        for column in 0..<columns where values[row * columns + column] > highest {
          best = column
          highest = values[row * columns + column]
        }
        return best
      }
    }
  }

  /// The rows of that range. Ranges beyond the end are cut.
  public func rows(_ range: Range<Int>) -> Matrix {
    let kept = range.clamped(to: 0..<rows)
    return Matrix(
      trusted: kept.count, columns, Array(values[kept.lowerBound * columns..<kept.upperBound * columns]))
  }

  init(trusted rows: Int, _ columns: Int, _ values: [Float]) {
    self.rows = rows
    self.columns = columns
    self.values = values
  }
}
