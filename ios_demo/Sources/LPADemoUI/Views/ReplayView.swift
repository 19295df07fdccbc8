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
              Text("Gate").bold()
              ForEach(model.units) { units in Text(Self.short(units)).bold() }
            }
            ForEach(Array(model.taps.enumerated()), id: \.offset) { _, tap in
              GridRow {
                Text(tap.name).font(.caption)
                Text(gate).font(.caption).foregroundStyle(.secondary)
                ForEach(model.units) { units in
                  Text(model.cell(tap, on: units))
                    .font(.caption)
                    .monospacedDigit()
                    .foregroundStyle(color(model.row(tap, on: units)))
                }
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

  private var gate: String { model.gate.map { "\(Int($0)) dB" } ?? "none" }

  private func color(_ row: TapResult?) -> Color {
    switch row?.passed {
    case true?: .green
    case false?: .red
    case nil: .secondary
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
