// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "MobileViTKit",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "MobileViTKit", targets: ["MobileViTKit"]),
        .library(name: "MobileViTDemoLogic", targets: ["MobileViTDemoLogic"]),
    ],
    targets: [
        .target(name: "MobileViTKit"),
        .target(name: "MobileViTDemoLogic", dependencies: ["MobileViTKit"]),
        .testTarget(name: "MobileViTKitTests", dependencies: ["MobileViTKit", "MobileViTDemoLogic"]),
    ],
    swiftLanguageModes: [.v6]
)

#if os(Linux)
// Debian's libswiftObservation lacks a symbol that only a failure inside of it would call.
for target in package.targets where target.type == .test {
    target.linkerSettings = [.unsafeFlags(["-Xlinker", "--allow-shlib-undefined"])]
}
#endif
