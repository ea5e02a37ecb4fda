import Foundation

/// A folder with a phone file, its manifest, and the reference vectors that prove it.
public struct ArtifactFolder: Sendable, Identifiable {
    public let url: URL
    public let manifest: Manifest

    /// The folder's name, such as "mobilevit_xxs-coreml-fp16".
    public var name: String { url.lastPathComponent }
    public var id: URL { url }
    /// The phone file, or its package folder.
    public var file: URL { url.appendingPathComponent(manifest.file) }

    /// Reads the manifest. Throws `KitError.artifact` where the folder is not an artifact.
    public init(url: URL) throws {
        let data = try read(url.appendingPathComponent("manifest.json"), limit: Manifest.maxBytes)
        self.url = url
        manifest = try Manifest(data: data)
        guard FileManager.default.fileExists(atPath: file.path) else {
            throw KitError.artifact("\(name) does not hold \(manifest.file), which its manifest names")
        }
    }

    /// The artifacts directly in `folder`, or `folder` itself; beside them why others were refused. What is hidden, such as a
    /// copy that was cut short, is neither.
    public static func find(in folder: URL) -> (artifacts: [ArtifactFolder], refusals: [String]) {
        var candidates = [folder]
        if !hasManifest(folder) {
            // By name: as URLs, a device gives what lies in /var as /private/var, which equals no URL made of `folder`.
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
            let shown = names.filter { !$0.hasPrefix(".") }.sorted()
            candidates = shown.map { folder.appendingPathComponent($0) }.filter(hasManifest)
        }
        var artifacts: [ArtifactFolder] = [], refusals: [String] = []
        for candidate in candidates {
            do {
                artifacts.append(try ArtifactFolder(url: candidate))
            } catch {
                refusals.append("\(candidate.lastPathComponent): \(explain(error))")
            }
        }
        return (artifacts, refusals)
    }

    private static func hasManifest(_ folder: URL) -> Bool {
        FileManager.default.fileExists(atPath: folder.appendingPathComponent("manifest.json").path)
    }

    /// The reference vectors beside the file. Throws `KitError.artifact` where they are missing or do not fit.
    public func reference() throws -> Reference {
        let data = try read(url.appendingPathComponent("reference.safetensors"), limit: 1 << 30)
        return try Reference(data: data, manifest: manifest)
    }

    /// Throws `KitError.artifact` unless the file is the one that the manifest describes: reads all of it.
    public func checkFile() throws {
        let (sha256, bytes) = try SHA256Digest.hashAndSize(of: file)
        guard (sha256, bytes) == (manifest.sha256, manifest.bytes) else {
            throw KitError.artifact(
                "\(manifest.file) is not the file that the manifest describes: it was changed or cut short")
        }
    }
}

func read(_ url: URL, limit: Int) throws -> Data {
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: url.resolvingSymlinksInPath().path),
        let size = (attributes[.size] as? NSNumber)?.intValue
    else { throw KitError.artifact("\(url.lastPathComponent) is missing") }
    guard size <= limit else { throw KitError.artifact("\(url.lastPathComponent) is larger than \(limit >> 20) MiB") }
    guard let data = try? Data(contentsOf: url) else {
        throw KitError.artifact("\(url.lastPathComponent) cannot be read")
    }
    return data
}

/// Any error as one line for people.
public func explain(_ error: any Error) -> String {
    (error as? KitError)?.message ?? oneLine(error.localizedDescription)
}
