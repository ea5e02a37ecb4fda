import MobileViTDemoLogic
import SwiftUI
import UIKit

/// What went wrong, in words and with a sign, not by color alone.
struct Problem: View {
    let reason: String

    init(_ reason: String) {
        self.reason = reason
    }

    var body: some View {
        Label {
            Text(reason)
        } icon: {
            Image(systemName: "exclamationmark.triangle.fill")
                .foregroundStyle(.orange)
        }
        .font(.callout)
    }
}

struct NoArtifact: View {
    var body: some View {
        ContentUnavailableView {
            Label("No artifact yet", systemImage: "shippingbox")
        } description: {
            Text("Convert a checkpoint with mobilevit convert, and add its folder under Artifacts.")
        }
    }
}

/// Shown where the camera may not be used; iOS asks once, and afterwards only Settings can allow it.
struct CameraRefused: View {
    @Environment(\.openURL) private var openURL

    var body: some View {
        ContentUnavailableView {
            Label("The camera is not allowed", systemImage: "video.slash")
        } description: {
            Text("Photographs work without it. To classify live, allow the camera in Settings.")
        } actions: {
            Button("Open Settings") {
                if let settings = URL(string: UIApplication.openSettingsURLString) {
                    openURL(settings)
                }
            }
            .buttonStyle(.borderedProminent)
        }
    }
}

/// The engines for the chosen artifact: one is checked, and those that cannot run say why.
struct EngineMenu: View {
    @Environment(DemoModel.self) private var model

    var body: some View {
        Menu {
            ForEach(model.engines) { engine in
                Button {
                    Task { await model.select(engine: engine.id) }
                } label: {
                    if engine.id == model.engineID {
                        Label(engine.title, systemImage: "checkmark")
                    } else {
                        Text(engine.title)
                    }
                    if let reason = engine.unavailable {
                        Text(reason)
                    }
                }
                .disabled(!engine.canBeTried)
            }
        } label: {
            Label(model.engine?.title ?? "Engine", systemImage: "cpu")
        }
        .disabled(model.engines.isEmpty)
        .accessibilityHint("Chooses where the model runs")
    }
}
