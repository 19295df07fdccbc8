// swift-tools-version: 6.0
import PackageDescription

// Linux has neither SwiftUI nor Core ML: there the app is type-checked against hand-written
// declarations (Stubs/), and ONNX Runtime takes Core ML's place in lpa-demo.
#if os(Linux)
  let stubs = ["SwiftUI", "CoreML", "AVFoundation", "UniformTypeIdentifiers"]
  let onnx: [Target] = [
    .systemLibrary(name: "COnnxRuntime"),
    .target(name: "LPAOnnx", dependencies: ["LPACore", "COnnxRuntime"]),
    // For the runner on the page, which no target has.
    .target(name: "MLX", path: "Stubs/MLX"),
  ]
  let runtime = "LPAOnnx"
#else
  let stubs: [String] = []
  let onnx: [Target] = []
  let runtime = "LPACoreML"
#endif

func dependencies(_ names: [String]) -> [Target.Dependency] { names.map { .byName(name: $0) } }

var targets: [Target] = [
  .target(name: "LPACore"),
  .target(name: "LPACoreML", dependencies: dependencies(["LPACore"] + stubs)),
  .target(name: "LPADemoUI", dependencies: dependencies(["LPACore", "LPACoreML"] + stubs)),
  .executableTarget(name: "lpa-demo", dependencies: dependencies(["LPACore", runtime])),
  .executableTarget(
    name: "LPADemoApp", dependencies: dependencies(["LPACore", "LPADemoUI"] + stubs), path: "App",
    exclude: ["Resources"]),
  .testTarget(name: "LPACoreTests", dependencies: ["LPACore"]),
  .testTarget(name: "LPADemoUITests", dependencies: ["LPACore", "LPADemoUI"]),
]
targets += onnx
for stub in stubs {
  // SwiftUI's file importer speaks of types.
  let needs = stub == "SwiftUI" ? ["UniformTypeIdentifiers"] : []
  targets.append(.target(name: stub, dependencies: dependencies(needs), path: "Stubs/\(stub)"))
}

let package = Package(
  name: "LPADemo",
  platforms: [.iOS(.v17), .macOS(.v14)],
  products: [
    .library(name: "LPACore", targets: ["LPACore"]),
    .library(name: "LPADemoUI", targets: ["LPADemoUI"]),
  ],
  targets: targets
)
