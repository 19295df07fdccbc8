import LPACore
import SwiftUI

struct WindowsView: View {
  @Bindable var model: WindowsModel

  var body: some View {
    NavigationStack {
      List {
        Section {
          Picker("Recording", selection: $model.choice) {
            ForEach(model.choices, id: \.self) { choice in Text(choice).tag(choice) }
          }
          Button("Draw its windows") { model.run() }.disabled(model.isRunning)
          if model.isRunning { ProgressView() }
          if let problem = model.problem { Text(problem).foregroundStyle(.red) }
        }
        if let shown = model.shown {
          Section("Which frames layer \(shown.layer) averages") {
            WindowsPicture(counts: model.picture)
              .aspectRatio(1, contentMode: .fit)
              .accessibilityLabel("Frames averaged for each frame")
            Text("Down: the frame that hears. Across: the frames that it averages.")
              .font(.caption)
              .foregroundStyle(.secondary)
          }
          Section("Shown") { choices(shown) }
        }
      }
      .navigationTitle("Windows")
    }
  }

  @ViewBuilder private func choices(_ shown: LayerWindows) -> some View {
    Picker("Layer", selection: $model.layer) {
      ForEach(model.layers.map(\.layer), id: \.self) { layer in Text(String(layer)).tag(layer) }
    }
    Picker("Head", selection: $model.head) {
      Text("All").tag(Int?.none)
      ForEach(0..<shown.heads, id: \.self) { head in Text(String(head)).tag(Int?.some(head)) }
    }
    ForEach(LayerWindows.Family.allCases, id: \.self) { family in
      Toggle(family.rawValue, isOn: shows(family))
    }
  }

  private func shows(_ family: LayerWindows.Family) -> Binding<Bool> {
    Binding(
      get: { model.families.contains(family) },
      set: { shown in
        if shown { model.families.insert(family) } else { model.families.remove(family) }
      })
  }
}

/// A square of frames by frames; the darker, the more windows.
private struct WindowsPicture: View {
  let counts: [[Int]]

  var body: some View {
    Canvas { context, size in
      let frames = counts.count
      guard frames > 0 else { return }
      let most = Double(counts.joined().max() ?? 1)
      let (width, height) = (size.width / CGFloat(frames), size.height / CGFloat(frames))
      for (row, line) in counts.enumerated() {
        for (column, count) in line.enumerated() where count > 0 {
          let place = CGRect(
            x: CGFloat(column) * width, y: CGFloat(row) * height, width: width, height: height)
          context.fill(Path(place), with: .color(.accentColor.opacity(Double(count) / most)))
        }
      }
    }
  }
}
