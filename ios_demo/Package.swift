// swift-tools-version: 6.0
import PackageDescription

// Linux has no Core ML: there its runner is type-checked against hand-written
// declarations (Stubs/), and ONNX Runtime takes Core ML's place in lpa-demo.
#if os(Linux)
  let stubs: [Target] = ["CoreML"].map {
    .target(name: $0, path: "Stubs/\($0)")
  }
  let runtimes: [Target] = [
    .systemLibrary(name: "COnnxRuntime"),
    .target(name: "LPAOnnx", dependencies: ["LPACore", "COnnxRuntime"]),
  ]
  let runtime: Target.Dependency = "LPAOnnx"
#else
  let stubs: [Target] = []
  let runtimes: [Target] = []
  let runtime: Target.Dependency = "LPACoreML"
#endif
let stubNames: [Target.Dependency] = stubs.map { .target(name: $0.name) }

let package = Package(
  name: "LPADemo",
  platforms: [.iOS(.v17), .macOS(.v14)],
  products: [
    .library(name: "LPACore", targets: ["LPACore"]),
  ],
  targets: stubs + runtimes + [
    .target(name: "LPACore"),
    .executableTarget(name: "lpa-demo", dependencies: ["LPACore", runtime]),
    .target(name: "LPACoreML", dependencies: ["LPACore"] + stubNames),
    .testTarget(name: "LPACoreTests", dependencies: ["LPACore"]),
  ]
)
