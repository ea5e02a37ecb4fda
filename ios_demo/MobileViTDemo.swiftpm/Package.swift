// swift-tools-version: 6.0
import AppleProductTypes
import PackageDescription

let appName = "MobileViT"
let bundleIdentifier = "dev.mobilevit.demo"

let package = Package(
    name: appName,
    platforms: [.iOS(.v17)],
    products: [
        .iOSApplication(
            name: appName,
            targets: ["AppModule"],
            bundleIdentifier: bundleIdentifier,
            displayVersion: "0.1.0",
            bundleVersion: "1",
            appIcon: .placeholder(icon: .camera),
            accentColor: .presetColor(.indigo),
            supportedDeviceFamilies: [.phone, .pad],
            supportedInterfaceOrientations: [
                .portrait,
                .landscapeRight,
                .landscapeLeft,
                .portraitUpsideDown(.when(deviceFamilies: [.pad])),
            ],
            capabilities: [
                .camera(purposeString: "The camera's pictures are classified on this device and leave it nowhere.")
            ],
            appCategory: .developerTools
        )
    ],
    dependencies: [
        .package(path: "MobileViTKit")
    ],
    targets: [
        .executableTarget(
            name: "AppModule",
            dependencies: [
                .product(name: "MobileViTKit", package: "MobileViTKit"),
                .product(name: "MobileViTDemoLogic", package: "MobileViTKit"),
            ],
            path: "App",
            resources: [.copy("Resources/artifacts")]
        )
    ]
)
