import MobileViTDemoLogic
import SwiftUI
import UIKit

/// Runs the reference vectors on this device, and hands out the report of it.
struct VerifyScreen: View {
    @Environment(DemoModel.self) private var model
    @Environment(\.scenePhase) private var scenePhase

    var body: some View {
        NavigationStack {
            Group {
                if let artifact = model.artifact {
                    List {
                        Section("Artifact") {
                            Text(artifact.name)
                                .font(.headline)
                        }
                        Section("Run on") {
                            ForEach(model.engines) { EngineToggle(engine: $0) }
                        }
                        VerificationSection(state: model.verifying.state)
                    }
                } else {
                    NoArtifact()
                }
            }
            .navigationTitle("Verify")
            // A device that falls asleep would time its sleep.
            .onChange(of: model.verifying.isRunning, initial: true) {
                UIApplication.shared.isIdleTimerDisabled = model.verifying.isRunning
            }
            // So would one whose app was put away, which also may not use the GPU any more.
            .onChange(of: scenePhase) {
                if scenePhase == .background, model.verifying.isRunning { model.verifying.cancel() }
            }
        }
    }
}

private struct EngineToggle: View {
    @Environment(DemoModel.self) private var model
    let engine: EngineOption

    var body: some View {
        @Bindable var model = model
        Toggle(isOn: $model[verifies: engine.id]) {
            Text(engine.title)
            if let reason = engine.unavailable {
                Text(reason)
                    .font(.caption)
                    .foregroundStyle(.secondary)
            }
        }
        .disabled(!engine.canBeTried || model.verifying.isRunning)
    }
}

private struct VerificationSection: View {
    @Environment(DemoModel.self) private var model
    let state: VerifyModel.State

    var body: some View {
        switch state {
        case .idle, .cancelled:
            Section {
                start(title: "Verify on this device")
            } footer: {
                Text(
                    state == .cancelled
                        ? "Cancelled, by you or because the app was put away: nothing was kept."
                        : "Runs every reference case, then measures the time of one picture.")
            }
        case .running(let progress):
            Section {
                VStack(alignment: .leading, spacing: 8) {
                    ProgressView(value: progress.fraction) {
                        Text(progress.engine)
                            .font(.headline)
                    } currentValueLabel: {
                        Text(progress.step)
                            .monospacedDigit()
                    }
                    Button("Cancel", role: .cancel) { model.verifying.cancel() }
                        .buttonStyle(.bordered)
                }
            }
        case .failed(let reason):
            Section {
                Problem(reason)
                start(title: "Try again")
            }
        case .finished(let outcome):
            Section("Verdict") {
                ForEach(outcome.rows) { VerdictRow(row: $0) }
            }
            Section {
                ShareLink(item: outcome.report) {
                    Label("Share the device report", systemImage: "square.and.arrow.up")
                }
                start(title: "Verify again")
            } footer: {
                Text("This is a preview: mobilevit verify --device-report judges the report on your computer.")
            }
        }
    }

    private func start(title: String) -> some View {
        Button {
            model.startVerification()
        } label: {
            Label(title, systemImage: "checkmark.seal")
        }
        .disabled(model.verified.isEmpty)
    }
}

private struct VerdictRow: View {
    let row: VerifyModel.Row

    var body: some View {
        Label {
            VStack(alignment: .leading, spacing: 4) {
                Text(row.engine)
                    .font(.headline)
                Text(row.summary)
                ForEach(row.details, id: \.self) { detail in
                    Text(detail)
                        .font(.footnote.monospacedDigit())
                        .foregroundStyle(.secondary)
                }
            }
        } icon: {
            Image(systemName: row.passed ? "checkmark.circle.fill" : "xmark.octagon.fill")
                .foregroundStyle(row.passed ? .green : .red)
                .accessibilityLabel(row.passed ? "Passed" : "Failed")
        }
        .accessibilityElement(children: .combine)
    }
}
