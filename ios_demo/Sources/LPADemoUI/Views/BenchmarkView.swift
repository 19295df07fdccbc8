import LPACore
import SwiftUI

struct BenchmarkView: View {
  @Bindable var model: BenchmarkModel

  var body: some View {
    NavigationStack {
      List {
        Section("Longest golden clip") {
          Stepper("Passes: \(model.passes)", value: $model.passes, in: 5...200)
          Button("Run") { model.run() }.disabled(model.isRunning)
          if model.isRunning { ProgressView() }
          if let problem = model.problem { Text(problem).foregroundStyle(.red) }
        }
        if let result = model.result { ResultSection(result: result) }
      }
      .navigationTitle("Benchmark")
    }
  }
}

private struct ResultSection: View {
  let result: BenchmarkResult

  var body: some View {
    Section(result.runtime) {
      LabeledContent("Cold: open and first pass", value: milliseconds(result.cold))
      LabeledContent("Warm: open and first pass", value: milliseconds(result.warm))
      LabeledContent("Median pass", value: milliseconds(result.p50))
      LabeledContent("95th percentile", value: milliseconds(result.p95))
      LabeledContent(
        "Real-time factor",
        value: result.realTimeFactor.formatted(.number.precision(.fractionLength(4))))
      if let bytes = result.peakMemoryBytes {
        LabeledContent("Peak memory", value: "\(bytes >> 20) MB")
      }
      if let states = result.thermalStates {
        LabeledContent("Thermal state", value: states.joined(separator: " to "))
      }
    }
  }

  private func milliseconds(_ seconds: Double) -> String {
    (1000 * seconds).formatted(.number.precision(.fractionLength(1))) + " ms"
  }
}
