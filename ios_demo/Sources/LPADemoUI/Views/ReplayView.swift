import LPACore
import SwiftUI

struct ReplayView: View {
  let model: ReplayModel

  var body: some View {
    NavigationStack {
      List {
        Section {
          Button("Replay the golden clips") { model.run() }.disabled(model.isRunning)
        }
        Section("Verdict") {
          ForEach(model.units) { units in
            HStack {
              Text(units.title)
              Spacer()
              verdict(model.outcomes[units])
            }
          }
        }
        Section("Taps") {
          Grid(alignment: .leading) {
            GridRow {
              Text("Tap").bold()
              ForEach(model.units) { units in Text(Self.short(units)).bold() }
            }
            ForEach(Array(model.taps.enumerated()), id: \.offset) { _, tap in
              GridRow {
                Text(tap.name).font(.caption)
                ForEach(model.units) { units in figure(model.row(tap, on: units)) }
              }
            }
          }
        }
      }
      .navigationTitle("Replay")
    }
  }

  @ViewBuilder private func verdict(_ outcome: ReplayModel.Outcome?) -> some View {
    switch outcome {
    case nil: Text("not run").foregroundStyle(.secondary)
    case .running?: ProgressView()
    case .failed(let why)?: Text(why).foregroundStyle(.red)
    case .found(let result)?:
      if result.passed {
        Text("pass").foregroundStyle(.green)
      } else if let tap = result.firstDiverging {
        Text("fails from \(tap.tap) on").foregroundStyle(.red)
      } else {
        Text(result.failures.first ?? "nothing to judge by").foregroundStyle(.red)
      }
    }
  }

  @ViewBuilder private func figure(_ row: TapResult?) -> some View {
    if let row, let value = row.psnrDB {
      Text(value.isFinite ? value.formatted(.number.precision(.fractionLength(1))) : "\(value)")
        .monospacedDigit()
        .foregroundStyle(row.passed == false ? Color.red : Color.green)
    } else {
      Text("-").foregroundStyle(.secondary)
    }
  }

  private static func short(_ units: ComputeUnits) -> String {
    switch units {
    case .cpu: "CPU"
    case .gpu: "GPU"
    case .neuralEngine: "ANE"
    case .all: "All"
    }
  }
}
