#if canImport(ExecuTorch)
import ExecuTorch

/// A .pte file on the delegate that it was made for.
public actor ExecuTorchEngine: Engine {
    public nonisolated let facts: EngineFacts
    private let module: Module
    private let input: Tensor<Float>
    private let tensor: InputTensor

    /// Loads the file and its method `forward`. Throws `KitError.engine`, also for a delegate that this build lacks.
    public init(_ artifact: ArtifactFolder) throws {
        let (manifest, file) = (artifact.manifest, artifact.manifest.file)
        guard manifest.input.layout != .picture else {
            throw KitError.engine("\(file) takes a picture, not a tensor")
        }
        facts = EngineFacts(executorch: manifest)
        module = Module(filePath: artifact.file.path)
        do { try module.load("forward") } catch {
            throw KitError.engine("ExecuTorch refuses \(file): \(oneLine(error.localizedDescription))")
        }
        input = Tensor<Float>(
            [Float](repeating: 0, count: InputTensor(manifest.input).count), shape: manifest.input.shape)
        tensor = InputTensor(manifest.input)
    }

    public func answer(_ picture: Picture) throws -> Answer {
        let tensor = tensor
        do {
            try input.withUnsafeMutableBytes { try tensor.fill($0, from: picture) }
            let start = ContinuousClock.now
            // In the order in which the network returns them, which is the manifest's.
            let outputs = try module.forward(input).flatMap { try Tensor<Float>($0).scalars() }
            return Answer(outputs: outputs, milliseconds: milliseconds(since: start))
        } catch let error as KitError {
            throw error
        } catch {
            throw KitError.engine("ExecuTorch failed: \(oneLine(error.localizedDescription))")
        }
    }
}
#endif
