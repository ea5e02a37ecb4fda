import Foundation
import MobileViTKit
import Observation

/// The artifacts that came with the app, and those that were added from Files.
@MainActor @Observable
public final class ArtifactLibrary {
    public struct Entry: Identifiable, Sendable {
        public let artifact: ArtifactFolder
        public let isImported: Bool

        public var id: URL { artifact.id }
        /// Such as "Core ML · fp16 · 1.9 MB · 10 classes".
        public var summary: String {
            let manifest = artifact.manifest
            let classes = manifest.labels.map { manifest.detects ? "detects \($0.count) classes" : "\($0.count) classes" }
                ?? (manifest.detects ? "detects" : nil)
            let parts = [formatTitle(manifest.format), manifest.precision, megabytes(manifest.bytes), classes]
            return parts.compactMap { $0 }.joined(separator: " · ")
        }
        public var warning: String? {
            artifact.manifest.rejections.first.map { "Rejected when it was converted: \($0)" }
        }
    }

    public private(set) var entries: [Entry] = []
    /// Folders that look like artifacts and are not: one line each.
    public private(set) var refusals: [String] = []
    private let bundled: [URL]
    private let imported: URL

    /// - Parameters:
    ///   - bundled: folders of artifacts that the app may not change; those that do not exist hold nothing.
    ///   - imported: the folder where added artifacts are kept; made when the first one comes.
    public init(bundled: [URL], imported: URL) {
        self.bundled = bundled
        self.imported = imported
    }

    /// That of this app: resources of a playground are in the app's bundle or in one inside of it, as the tool that built
    /// it has it.
    public static func onThisDevice() -> ArtifactLibrary {
        let resources = Bundle.main.resourceURL ?? Bundle.main.bundleURL
        let inner = (try? FileManager.default.contentsOfDirectory(at: resources, includingPropertiesForKeys: nil)) ?? []
        let places = [resources] + inner.filter { $0.pathExtension == "bundle" }
        let support = FileManager.default.urls(for: .applicationSupportDirectory, in: .userDomainMask)[0]
        return ArtifactLibrary(
            bundled: places.map { $0.appendingPathComponent("artifacts") },
            imported: support.appendingPathComponent("artifacts")
        )
    }

    /// Reads the manifests again.
    public func reload() async {
        let found = await Self.scan(bundled: bundled, imported: imported)
        (entries, refusals) = found
    }

    private nonisolated static func scan(bundled: [URL], imported: URL) async -> ([Entry], [String]) {
        var entries: [Entry] = [], refusals: [String] = []
        for (folder, isImported) in bundled.map({ ($0, false) }) + [(imported, true)] {
            let found = ArtifactFolder.find(in: folder)
            entries += found.artifacts.map { Entry(artifact: $0, isImported: isImported) }
            refusals += found.refusals
        }
        return (entries, refusals)
    }

    /// Checks the artifact in a folder and copies what belongs to it; where it is then. Nothing stays of one that is refused.
    ///
    /// Throws `KitError.artifact` where it is damaged, and an error of the file system.
    public func add(_ folder: URL) async throws -> URL {
        let added = try await Self.copy(folder, into: imported)
        await reload()
        return added
    }

    private nonisolated static func copy(_ folder: URL, into imported: URL) async throws -> URL {
        let source = try ArtifactFolder(url: folder)
        _ = try source.reference()
        try source.checkFile()
        let files = FileManager.default
        let partial = imported.appendingPathComponent(".partial-\(UUID().uuidString)")
        try files.createDirectory(at: partial, withIntermediateDirectories: true)
        defer { try? files.removeItem(at: partial) }
        for name in ["manifest.json", "reference.safetensors", source.manifest.file] {
            try files.copyItem(at: folder.appendingPathComponent(name), to: partial.appendingPathComponent(name))
        }
        // Of the copy again: a folder in a cloud may change while it is read.
        let copy = try ArtifactFolder(url: partial)
        _ = try copy.reference()
        try copy.checkFile()
        let target = free(source.name, in: imported)
        try files.moveItem(at: partial, to: target)
        return target
    }

    /// The name, or the name with the first number behind it that is not taken.
    private nonisolated static func free(_ name: String, in folder: URL) -> URL {
        var (url, number) = (folder.appendingPathComponent(name), 2)
        while FileManager.default.fileExists(atPath: url.path) {
            url = folder.appendingPathComponent("\(name)-\(number)")
            number += 1
        }
        return url
    }

    /// Deletes an artifact that was added; one that came with the app stays.
    public func remove(_ entry: Entry) async throws {
        guard entry.isImported else { return }
        try FileManager.default.removeItem(at: entry.artifact.url)
        await reload()
    }
}

/// For people: "Core ML" for "coreml".
func formatTitle(_ format: String) -> String {
    ["coreml": "Core ML", "tflite": "TFLite", "executorch": "ExecuTorch", "coreai": "Core AI"][format] ?? format
}

func megabytes(_ bytes: Int) -> String { String(format: "%.1f MB", Double(bytes) / 1e6) }
