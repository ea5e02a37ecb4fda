#if canImport(CoreAI)
import CoreAI
import Foundation

/// A Core AI asset, for iOS 27 and newer; the framework chooses where it runs.
@available(iOS 27.0, macOS 27.0, *)
public actor CoreAIEngine: Engine {
    public nonisolated let facts = EngineFacts(
        runtime: "coreai", version: DeviceFacts.current.system, accelerator: .all)
    private let model: LoadedModel
    private let tensor: InputTensor
    private var values: [Float]

    /// Loads the asset. Throws `KitError.engine`.
    public static func open(_ artifact: ArtifactFolder) async throws -> CoreAIEngine {
        CoreAIEngine(try await LoadedModel(artifact), InputTensor(artifact.manifest.input))
    }

    private init(_ model: LoadedModel, _ tensor: InputTensor) {
        self.model = model
        self.tensor = tensor
        values = [Float](repeating: 0, count: tensor.count)
    }

    public func answer(_ picture: Picture) async throws -> Answer {
        try values.withUnsafeMutableBufferPointer { try tensor.fill($0, from: picture) }
        return try await model.answer(values)
    }
}

/// The framework does not say which of its types may cross between actors, so none of them does: they stay in here, and
/// only the engine above, one call at a time, uses it.
@available(iOS 27.0, macOS 27.0, *)
private final class LoadedModel: @unchecked Sendable {
    private let manifest: Manifest
    private let function: InferenceFunction

    init(_ artifact: ArtifactFolder) async throws {
        manifest = artifact.manifest
        let file = manifest.file
        guard manifest.input.layout != .picture else {
            throw KitError.engine("\(file) takes a picture, not a tensor")
        }
        let loaded: InferenceFunction?
        do { loaded = try await AIModel(contentsOf: artifact.file).loadFunction(named: "main") } catch {
            throw KitError.engine("Core AI refuses \(file): \(oneLine(error.localizedDescription))")
        }
        guard let loaded else { throw KitError.engine("\(file) has no function \"main\"") }
        function = loaded
    }

    func answer(_ values: [Float]) async throws -> Answer {
        var input = NDArray(shape: manifest.input.shape, scalarType: .float32)
        copy(values, into: &input)
        let start = ContinuousClock.now
        do {
            var outputs = try await function.run(inputs: [manifest.input.name: input])
            var values: [Float] = []
            for head in manifest.heads {
                guard let array = outputs.remove(head.name)?.ndArray else {
                    throw KitError.engine("Core AI answered without \"\(oneLine(head.name))\"")
                }
                values += try floats(array)
            }
            return Answer(outputs: values, milliseconds: milliseconds(since: start))
        } catch let error as KitError {
            throw error
        } catch {
            throw KitError.engine("Core AI failed: \(oneLine(error.localizedDescription))")
        }
    }

    /// By the strides: rows may be padded in memory.
    private func copy(_ values: [Float], into array: inout NDArray) {
        let shape = array.shape
        let view = array.mutableView(as: Float.self)
        view.withUnsafeMutablePointer { pointer, _, strides in
            var index = 0
            for a in 0..<shape[1] {
                for b in 0..<shape[2] {
                    for c in 0..<shape[3] {
                        pointer[a * strides[1] + b * strides[2] + c * strides[3]] = values[index]
                        index += 1
                    }
                }
            }
        }
    }

    /// In row-major order, whatever the strides.
    private func floats(_ array: NDArray) throws -> [Float] {
        switch array.scalarType {
        case .float32: return flatten(array, Float.self)
        #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
        case .float16: return flatten(array, Float16.self)
        #endif
        default: throw KitError.engine("Core AI answered with numbers that are not floats")
        }
    }

    private func flatten<T: BinaryFloatingPoint & BitwiseCopyable>(_ array: NDArray, _ type: T.Type) -> [Float] {
        let shape = array.shape
        return array.view(as: type).withUnsafePointer { pointer, _, strides in
            (0..<shape.reduce(1, *)).map { index in
                var (rest, offset) = (index, 0)
                for axis in shape.indices.reversed() {
                    offset += rest % shape[axis] * strides[axis]
                    rest /= shape[axis]
                }
                return Float(pointer[offset])
            }
        }
    }
}
#endif
