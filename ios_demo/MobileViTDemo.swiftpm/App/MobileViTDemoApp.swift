import MobileViTDemoLogic
import SwiftUI

@main
struct MobileViTDemoApp: App {
    @State private var model = DemoModel.onThisDevice()

    var body: some Scene {
        WindowGroup {
            RootScreen()
                .environment(model)
                .tint(.indigo)
        }
    }
}

struct RootScreen: View {
    @Environment(DemoModel.self) private var model

    var body: some View {
        TabView {
            ClassifyScreen()
                .tabItem { Label("Classify", systemImage: "camera.viewfinder") }
            VerifyScreen()
                .tabItem { Label("Verify", systemImage: "checkmark.seal") }
            ArtifactsScreen()
                .tabItem { Label("Artifacts", systemImage: "shippingbox") }
        }
        .task { await model.start() }
    }
}
