// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "MobileViTKit",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "MobileViTKit", targets: ["MobileViTKit"])],
    targets: [
        .target(name: "MobileViTKit"),
        .testTarget(name: "MobileViTKitTests", dependencies: ["MobileViTKit"]),
    ],
    swiftLanguageModes: [.v6]
)
