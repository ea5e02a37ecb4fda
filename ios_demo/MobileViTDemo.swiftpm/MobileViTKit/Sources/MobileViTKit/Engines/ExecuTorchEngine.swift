#if canImport(ExecuTorch)
import ExecuTorch

/// A .pte file on the delegate that it was made for.
public actor ExecuTorchEngine: Engine {
    public nonisolated let facts: EngineFacts
    private let module: Module
    private let entries: [EntryPoint]
    /// In the order of the entries.
    private let methods: [Method]

    private struct Method {
        let name: String
        let input: Tensor<Float>
        let tensor: InputTensor

        init(_ entry: EntryPoint) {
            name = entry.name ?? "forward"
            tensor = InputTensor(entry.input)
            input = Tensor<Float>([Float](repeating: 0, count: tensor.count), shape: entry.input.shape)
        }
    }

    /// Loads the file and the methods of its entries, of one size `forward`. Throws `KitError.engine`, also for a delegate that this build lacks.
    public init(_ artifact: ArtifactFolder) throws {
        let (manifest, file) = (artifact.manifest, artifact.manifest.file)
        guard manifest.input.layout != .picture else {
            throw KitError.engine("\(file) takes a picture, not a tensor")
        }
        facts = EngineFacts(executorch: manifest)
        module = Module(filePath: artifact.file.path)
        entries = manifest.entries
        methods = entries.map(Method.init)
        do { for method in methods { try module.load(method.name) } } catch {
            throw KitError.engine("ExecuTorch refuses \(file): \(oneLine(error.localizedDescription))")
        }
    }

    public func answer(_ picture: Picture) throws -> Answer {
        let method = methods[try entries.place(of: picture)], tensor = method.tensor
        do {
            try method.input.withUnsafeMutableBytes { try tensor.fill($0, from: picture) }
            let start = ContinuousClock.now
            // In the order in which the network returns them, which is the manifest's.
            let outputs = try module.execute(method.name, method.input).flatMap { try Tensor<Float>($0).scalars() }
            return Answer(outputs: outputs, milliseconds: milliseconds(since: start))
        } catch let error as KitError {
            throw error
        } catch {
            throw KitError.engine("ExecuTorch failed: \(oneLine(error.localizedDescription))")
        }
    }
}
#endif
