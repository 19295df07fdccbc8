import Foundation

/// What `work` gives for each item, in their order, made on all cores.
func concurrently<Item: Sendable, Result: Sendable>(
  _ items: [Item], _ work: @Sendable (Item) -> Result
) -> [Result] {
  var results = [Result?](repeating: nil, count: items.count)
  results.withUnsafeMutableBufferPointer { buffer in
    // Each pass has a place of its own.
    nonisolated(unsafe) let places = buffer
    DispatchQueue.concurrentPerform(iterations: items.count) { places[$0] = work(items[$0]) }
  }
  return results.compactMap { $0 }
}
