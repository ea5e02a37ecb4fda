import Foundation
import MobileViTKit
import Observation

/// What the screens share: the artifact, the engine, and what is done with them.
@MainActor @Observable
public final class DemoModel {
    public let library: ArtifactLibrary
    public let classifying = ClassifyModel()
    public let verifying: VerifyModel
    public private(set) var artifact: ArtifactFolder?
    public private(set) var engines: [EngineOption] = []
    public private(set) var engineID: String?
    /// Engines that Verify runs.
    public private(set) var verified: Set<String> = []
    public private(set) var isAdding = false
    /// Why the last folder was not added, or the last artifact not removed.
    public private(set) var problem: String?
    private let source: EngineSource

    public init(library: ArtifactLibrary, verifying: VerifyModel, source: EngineSource = .kit) {
        self.library = library
        self.verifying = verifying
        self.source = source
    }

    /// That of this app.
    public static func onThisDevice() -> DemoModel {
        let version = Bundle.main.object(forInfoDictionaryKey: "CFBundleShortVersionString") as? String
        let reports = FileManager.default.temporaryDirectory.appendingPathComponent("reports")
        return DemoModel(
            library: .onThisDevice(), verifying: VerifyModel(reports: reports, appVersion: version ?? "0")
        )
    }

    public var engine: EngineOption? { engines.first { $0.id == engineID } }
    /// Height and width of what the model sees, as parts of the picture's shorter side; nil where that is all of it.
    public var crop: CGSize? {
        artifact.flatMap { artifact in
            let entries = artifact.manifest.entries
            return cropOfShorterSide(entries[min(classifying.entry, entries.count - 1)].input.resizing)
        }
    }

    /// Finds the artifacts, and opens the first of them that an engine runs.
    public func start() async {
        guard artifact == nil else { return }
        await library.reload()
        await selectFirst()
    }

    private func selectFirst() async {
        let runs = library.entries.first { !source.choices($0.artifact.manifest).isEmpty }
        if let entry = runs ?? library.entries.first { await select(artifact: entry.id) }
    }

    public func select(artifact id: URL) async {
        guard let entry = library.entries.first(where: { $0.id == id }) else { return }
        verifying.reset()
        artifact = entry.artifact
        engines = source.options(for: entry.artifact.manifest)
        verified = Set(engines.filter(\.canBeTried).map(\.id))
        await select(engine: (engines.first(where: \.canBeTried) ?? engines[0]).id)
    }

    /// Opens an engine for the artifact. One that cannot be opened is marked with the reason; another is not tried silently.
    public func select(engine id: String) async {
        guard let artifact, let option = engines.first(where: { $0.id == id }) else { return }
        engineID = id
        guard let choice = option.choice else {
            classifying.close()
            classifying.fail(option.unavailable ?? "It cannot run here")
            return
        }
        let reason = await classifying.open(artifact, on: choice, from: source)
        if let index = engines.firstIndex(where: { $0.id == id }), self.artifact?.id == artifact.id {
            engines[index].unavailable = reason
        }
    }

    /// Whether Verify runs an engine.
    public subscript(verifies id: String) -> Bool {
        get { verified.contains(id) }
        set {
            if newValue { verified.insert(id) } else { verified.remove(id) }
        }
    }

    public func startVerification() {
        let choices = engines.filter { verified.contains($0.id) }.compactMap(\.choice)
        guard let artifact, !choices.isEmpty else { return }
        verifying.start(artifact, on: choices)
    }

    /// Adds the folder that was picked; a picker that was dismissed by an error says which.
    public func add(_ picked: Result<URL, any Error>) async {
        problem = nil
        isAdding = true
        defer { isAdding = false }
        do {
            let added = try await library.add(try picked.get())
            if let entry = library.entries.first(where: { $0.artifact.url.path == added.path }) {
                await select(artifact: entry.id)
            }
        } catch {
            problem = explain(error)
        }
    }

    public func remove(at offsets: IndexSet) async {
        problem = nil
        do {
            for entry in offsets.filter(library.entries.indices.contains).map({ library.entries[$0] }) {
                try await library.remove(entry)
            }
        } catch {
            problem = explain(error)
        }
        guard let artifact, !library.entries.contains(where: { $0.id == artifact.id }) else { return }
        verifying.reset()
        classifying.close()
        (self.artifact, engines, engineID, verified) = (nil, [], nil, [])
        await selectFirst()
    }
}

/// Height and width of the crop as parts of the resized shorter side; nil where pixels are cropped from neither side.
func cropOfShorterSide(_ resizing: AppInput.Resizing) -> CGSize? {
    guard resizing.mode == .shorterSide, let crop = resizing.centerCrop else { return nil }
    let side = Double(resizing.size[0])
    guard crop.max()! <= resizing.size[0] else { return nil }
    return CGSize(width: Double(crop[1]) / side, height: Double(crop[0]) / side)
}
