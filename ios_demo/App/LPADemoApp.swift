import Foundation
import LPACore
import LPADemoUI
import SwiftUI

/// The app: the screens, or, started with `--lpa-run`, measurements without any.
@main
struct LPADemoApp: App {
  @State private var models = DemoModels(store: Self.store)

  var body: some Scene {
    WindowGroup {
      RootView(models: models)
        .task {
          await Self.runHeadless()
          models.store.start(resources: Self.resources)
        }
    }
  }

  @MainActor private static let store = ModelStore(
    library: BundleLibrary(root: Self.ownFolder), opener: CoreMLOpener(), isSimulator: isSimulator,
    now: { ProcessInfo.processInfo.systemUptime })

  private static var isSimulator: Bool {
    #if targetEnvironment(simulator)
      true
    #else
      false
    #endif
  }

  private static var ownFolder: URL {
    let support = FileManager.default.urls(for: .applicationSupportDirectory, in: .userDomainMask)
    return support.first ?? FileManager.default.temporaryDirectory
  }

  /// Where `lpa-bundle --app ios_demo` puts a bundle.
  private static var resources: URL? {
    Bundle.main.resourceURL?.appendingPathComponent("Bundle")
  }

  /// Ends the process when there was something to do; exit codes as HeadlessOutcome's.
  private static func runHeadless() async {
    let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask).first
    let folder = documents ?? FileManager.default.temporaryDirectory
    do {
      guard let plan = try HeadlessPlan(CommandLine.arguments, folder: folder) else { return }
      let bundle = try BundleLibrary(root: ownFolder).present(resources: resources)
      let outcome = try await plan.run(bundle) { units in
        try await CoreMLOpener().open(bundle, units: isSimulator ? .cpu : units) { _ in }
      }
      print("wrote \(plan.output.path)")
      for problem in outcome.problems { print("LPADemo: error: \(problem)") }
      exit(outcome.exitCode)
    } catch {
      print("LPADemo: error: \(error.oneLine)")
      exit(2)
    }
  }
}
