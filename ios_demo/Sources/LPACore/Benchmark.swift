import Foundation

#if canImport(Darwin)
  import Darwin
#endif

/// How fast a model is on this machine. Times in seconds.
public struct BenchmarkResult: Sendable, Equatable {
  public let runtime: String
  public let units: ComputeUnits?
  /// Length of the audio.
  public let audioSeconds: Double
  /// From nothing to the first logits: opening, specialising, first pass.
  public let cold: Double
  /// The same once more, with what the first time left in caches.
  public let warm: Double
  /// Every pass behind the first, which is dropped: it still sets things up.
  public let passes: [Double]
  public let peakMemoryBytes: Int?
  /// Before and after; nil where the system does not say.
  public let thermalStates: [String]?

  public var p50: Double { percentile(passes, 0.5) }
  public var p95: Double { percentile(passes, 0.95) }
  /// Seconds of work per second of audio: below 1 is faster than speech.
  public var realTimeFactor: Double { p50 / audioSeconds }
}

/// Opens a runner twice and runs it `passes` times behind the first pass, which is dropped.
///
/// Raises LpaError for fewer than one pass, and what opening and running raise.
public func benchmark(
  _ waveform: [Float], sampleRate: Int, passes: Int,
  open: @Sendable () async throws -> any ModelRunner
) async throws -> BenchmarkResult {
  guard passes >= 1 else { throw LpaError("a benchmark takes at least one pass") }
  let clock = ContinuousClock()
  let before = thermalState()
  let coldStart = clock.now
  _ = try await open().logits(waveform)
  let cold = seconds(clock.now - coldStart)
  let warmStart = clock.now
  let runner = try await open()
  _ = try await runner.logits(waveform)
  let warm = seconds(clock.now - warmStart)
  var times: [Double] = []
  for _ in 0..<passes {
    let start = clock.now
    _ = try await runner.logits(waveform)
    times.append(seconds(clock.now - start))
  }
  let states = [before, thermalState()].compactMap { $0 }
  return BenchmarkResult(
    runtime: runner.runtime, units: runner.units,
    audioSeconds: Double(waveform.count) / Double(sampleRate), cold: cold,
    warm: warm, passes: times, peakMemoryBytes: peakMemory(), thermalStates: states.count == 2 ? states : nil)
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

/// The most memory that this process has taken so far, in bytes.
public func peakMemory() -> Int? {
  #if canImport(Darwin)
    var info = task_vm_info_data_t()
    var count = mach_msg_type_number_t(
      MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size)
    let status = withUnsafeMutablePointer(to: &info) {
      $0.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
        task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
      }
    }
    return status == KERN_SUCCESS ? Int(info.ledger_phys_footprint_peak) : nil
  #else
    // "VmHWM:   12345 kB"
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") })
    else { return nil }
    return line.split(separator: " ").compactMap { Int($0) }.first.map { $0 * 1024 }
  #endif
}

/// How hot the device is; nil where the system does not say.
public func thermalState() -> String? {
  #if canImport(Darwin)
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: "nominal"
    case .fair: "fair"
    case .serious: "serious"
    case .critical: "critical"
    @unknown default: "unknown"
    }
  #else
    nil
  #endif
}
