import MobileViTDemoLogic
import MobileViTKit
import PhotosUI
import SwiftUI

/// The camera or a photograph, the classes or objects that the model sees in it, and how long that takes.
struct ClassifyScreen: View {
    @Environment(DemoModel.self) private var model
    @Environment(\.scenePhase) private var scenePhase
    @State private var camera = CameraModel()
    @State private var chosen: PhotosPickerItem?
    @State private var photo: Photo?
    @State private var photoProblem: String?

    var body: some View {
        NavigationStack {
            Group {
                if model.artifact == nil {
                    NoArtifact()
                } else {
                    GeometryReader { proxy in
                        content(in: proxy.size)
                    }
                }
            }
            .navigationTitle(model.artifact?.name ?? "Classify")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItem(placement: .topBarTrailing) { EngineMenu() }
            }
        }
        .onChange(of: chosen) { open(chosen) }
    }

    private func content(in size: CGSize) -> some View {
        let isWide = size.width > size.height
        let layout = isWide ? AnyLayout(HStackLayout(spacing: 0)) : AnyLayout(VStackLayout(spacing: 0))
        return layout {
            viewfinder
                .frame(maxWidth: .infinity, maxHeight: isWide ? .infinity : size.height / 2)
            ScrollView {
                VStack(alignment: .leading, spacing: 20) {
                    sources
                    OutcomeView(state: model.classifying.state)
                }
                .padding()
            }
        }
    }

    @ViewBuilder private var viewfinder: some View {
        if let photo {
            Frame(crop: model.crop, found: model.classifying.found) {
                Image(uiImage: photo.image)
                    .resizable()
                    .aspectRatio(contentMode: model.crop == nil ? .fit : .fill)
            }
            .accessibilityLabel("The chosen photograph")
        } else {
            Group {
                switch camera.access {
                case .unknown:
                    Frame(crop: nil, found: nil) { ProgressView() }
                case .running:
                    if let source = camera.camera {
                        Frame(crop: model.crop, found: model.classifying.found) {
                            CameraPreview(camera: source, fills: model.crop != nil)
                        }
                        .accessibilityLabel("Live picture of the camera")
                    }
                case .refused:
                    CameraRefused()
                case .failed(let reason):
                    ContentUnavailableView("No camera", systemImage: "video.slash", description: Text(reason))
                }
            }
            // Ends with the screen, and starts again when the app comes back, perhaps from Settings.
            .task(id: scenePhase) {
                if scenePhase == .active { await camera.run(model.classifying) }
            }
        }
    }

    private var sources: some View {
        VStack(alignment: .leading, spacing: 8) {
            // Beside each other, or below where the text is large.
            ViewThatFits(in: .horizontal) {
                HStack { sourceButtons }
                VStack(alignment: .leading) { sourceButtons }
            }
            .buttonStyle(.bordered)
            if let photoProblem {
                Problem(photoProblem)
            }
        }
    }

    @ViewBuilder private var sourceButtons: some View {
        // As it is stored: a copy in another format has other pixels.
        PhotosPicker(selection: $chosen, matching: .images, preferredItemEncoding: .current) {
            Label("Choose a photo", systemImage: "photo.on.rectangle")
        }
        if photo != nil {
            Button("Camera", systemImage: "camera") {
                photo = nil
                chosen = nil
                model.classifying.useCamera()
            }
        }
    }

    private func open(_ item: PhotosPickerItem?) {
        guard let item else { return }
        photoProblem = nil
        Task {
            do {
                let opened = try await Photo(item)
                guard item == chosen else { return }  // another was chosen meanwhile
                photo = opened
                await model.classifying.classify(opened.pixels, opened.layout)
            } catch {
                photoProblem = explain(error)
            }
        }
    }
}

/// A square with a picture that fills it, a line around what the model gets of that, and a detector's boxes.
private struct Frame<Content: View>: View {
    /// Height and width of the crop, as parts of the square's side; nil where the model gets more than the square shows.
    let crop: CGSize?
    let found: FoundObjects?
    @ViewBuilder let content: Content

    var body: some View {
        Color.black
            .aspectRatio(1, contentMode: .fit)
            .overlay { content }
            .overlay {
                GeometryReader { proxy in
                    if let crop {
                        RoundedRectangle(cornerRadius: 8)
                            .stroke(.white.opacity(0.8), lineWidth: 2)
                            .frame(width: proxy.size.width * crop.width, height: proxy.size.height * crop.height)
                            .frame(width: proxy.size.width, height: proxy.size.height)
                    }
                }
            }
            .overlay {
                if let found { BoxesView(found: found, fills: crop != nil) }
            }
            .clipped()
            .accessibilityElement(children: .ignore)
    }
}

/// The best classes, or what a detector finds, with a bar each, and the times.
private struct OutcomeView: View {
    let state: ClassifyModel.State

    var body: some View {
        switch state {
        case .closed:
            EmptyView()
        case .opening(let engine):
            HStack(spacing: 12) {
                ProgressView()
                Text("Opening the model on \(engine)")
            }
        case .waiting:
            Text("Point the camera at something, or choose a photo.")
                .foregroundStyle(.secondary)
        case .failed(let reason):
            Problem(reason)
        case .answered(let outcome):
            VStack(alignment: .leading, spacing: 12) {
                ForEach(outcome.scores) { ScoreRow(score: $0) }
                if outcome.scores.isEmpty {
                    Text("Nothing is as sure as \(Int(100 * Detection.leastProbability))%.")
                        .foregroundStyle(.secondary)
                }
                Text(outcome.times)
                    .font(.footnote.monospacedDigit())
                    .foregroundStyle(.secondary)
                    .padding(.top, 4)
                if let entry = outcome.answeredBy {
                    Text("Answered by \(entry)")
                        .font(.footnote)
                        .foregroundStyle(.secondary)
                }
            }
        }
    }
}

private struct ScoreRow: View {
    let score: ClassifyModel.Score
    @ScaledMetric(relativeTo: .body) private var height = 8.0

    var body: some View {
        VStack(alignment: .leading, spacing: 4) {
            HStack(alignment: .firstTextBaseline) {
                Text(score.label)
                    .fontWeight(score.isBest ? .semibold : .regular)
                Spacer()
                Text(score.percent)
                    .monospacedDigit()
                    .foregroundStyle(.secondary)
            }
            GeometryReader { proxy in
                Capsule().fill(.quaternary)
                bar
                    .frame(width: max(proxy.size.width * score.probability, height))
                    .opacity(score.isBest || score.color != nil ? 1 : 0.6)
            }
            .frame(height: height)
        }
        .accessibilityElement(children: .ignore)
        .accessibilityLabel(score.label)
        .accessibilityValue(score.percent)
    }

    @ViewBuilder private var bar: some View {
        if let color = score.color {
            Capsule().fill(Color(color))
        } else {
            Capsule().fill(.tint)
        }
    }
}
