import MobileViTDemoLogic
import SwiftUI
import UniformTypeIdentifiers

/// The artifacts in the app and those added from Files.
struct ArtifactsScreen: View {
    @Environment(DemoModel.self) private var model
    @State private var isImporting = false

    var body: some View {
        NavigationStack {
            List {
                if let problem = model.problem {
                    Section { Problem(problem) }
                }
                Section {
                    ForEach(model.library.entries) { entry in
                        ArtifactRow(entry: entry, isChosen: entry.id == model.artifact?.id)
                            .deleteDisabled(!entry.isImported)
                    }
                    .onDelete { offsets in
                        Task { await model.remove(at: offsets) }
                    }
                }
                if !model.library.refusals.isEmpty {
                    Section("Refused") {
                        ForEach(model.library.refusals, id: \.self) { Problem($0) }
                    }
                }
            }
            .overlay {
                if model.library.entries.isEmpty && model.library.refusals.isEmpty && model.problem == nil {
                    NoArtifact()
                }
            }
            .navigationTitle("Artifacts")
            .toolbar {
                ToolbarItem(placement: .topBarTrailing) {
                    if model.isAdding {
                        ProgressView()
                    } else {
                        Button("Add a folder", systemImage: "plus") { isImporting = true }
                    }
                }
            }
            .fileImporter(isPresented: $isImporting, allowedContentTypes: [.folder]) { result in
                Task { await add(result) }
            }
        }
    }

    /// Files of other apps may be read between these two calls alone.
    private func add(_ picked: Result<URL, any Error>) async {
        let folder = try? picked.get()
        let isOpen = folder?.startAccessingSecurityScopedResource() ?? false
        defer {
            if isOpen { folder?.stopAccessingSecurityScopedResource() }
        }
        await model.add(picked)
    }
}

private struct ArtifactRow: View {
    @Environment(DemoModel.self) private var model
    let entry: ArtifactLibrary.Entry
    let isChosen: Bool

    var body: some View {
        Button {
            Task { await model.select(artifact: entry.id) }
        } label: {
            HStack {
                VStack(alignment: .leading, spacing: 4) {
                    Text(entry.artifact.name)
                        .font(.headline)
                    Text(entry.summary)
                        .font(.subheadline)
                        .foregroundStyle(.secondary)
                    if let warning = entry.warning {
                        Problem(warning)
                    }
                }
                Spacer()
                if isChosen {
                    Image(systemName: "checkmark")
                        .foregroundStyle(.tint)
                        .accessibilityHidden(true)
                }
            }
        }
        .buttonStyle(.plain)
        .accessibilityElement(children: .combine)
        .accessibilityAddTraits(isChosen ? .isSelected : [])
    }
}
