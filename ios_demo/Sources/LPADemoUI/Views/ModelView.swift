import LPACore
import SwiftUI
import UniformTypeIdentifiers

struct ModelView: View {
  let store: ModelStore
  @State private var choosesFolder = false

  var body: some View {
    NavigationStack {
      List {
        Section("State") { state }
        if let notice = store.notice {
          Section { Text(notice).foregroundStyle(.orange) }
        }
        Section("Compute units") {
          Picker("Run on", selection: chosenUnits) {
            ForEach(store.availableUnits) { units in Text(units.title).tag(units) }
          }
          .disabled(store.isSimulator || store.state.isBusy)
        }
        if let bundle = store.bundle { BundleSection(bundle: bundle) }
        Section {
          Button("Import a bundle folder") { choosesFolder = true }
          Button("Remove", role: .destructive) { store.remove() }.disabled(store.bundle == nil)
        }
      }
      .navigationTitle("Model")
      .fileImporter(isPresented: $choosesFolder, allowedContentTypes: [.folder]) { result in
        guard case .success(let folder) = result else { return }
        store.importBundle(folder)
      }
    }
  }

  private var chosenUnits: Binding<ComputeUnits> {
    Binding(get: { store.units }, set: { store.choose($0) })
  }

  @ViewBuilder private var state: some View {
    switch store.state {
    case .failed(let why): Text(why).foregroundStyle(.red)
    case .missing: Text("No model yet").foregroundStyle(.secondary)
    case .ready:
      Text("Ready").foregroundStyle(.green)
      ForEach(steps) { step in
        LabeledContent(
          step.title, value: step.seconds.formatted(.number.precision(.fractionLength(1))) + " s")
      }
    case .checking, .compiling, .specialising, .warming:
      TimelineView(.periodic(from: .now, by: 1)) { _ in
        HStack {
          ProgressView()
          Text(store.state.title)
          Spacer()
          Text("\(store.elapsed(at: store.moment), format: .number.precision(.fractionLength(0))) s")
            .monospacedDigit()
        }
      }
      Button("Cancel") { store.cancel() }
    }
  }

  private struct Step: Identifiable {
    let id: Int
    let title: String
    let seconds: Double
  }

  private var steps: [Step] {
    store.progress.steps.enumerated().map { index, step in
      Step(id: index, title: step.title, seconds: step.seconds)
    }
  }
}

private struct BundleSection: View {
  let bundle: LPABundle

  var body: some View {
    Section("Bundle") {
      LabeledContent("Model", value: bundle.manifest.model)
      LabeledContent("Scheme", value: bundle.manifest.scheme)
      LabeledContent("SHA-256", value: String(bundle.sha256.prefix(12)))
      LabeledContent("Files", value: String(bundle.manifest.files.count))
    }
  }
}
