#if canImport(CoreAI)
import CoreAI
import Foundation

/// A Core AI asset, for iOS 27 and newer; the framework chooses where it runs.
@available(iOS 27.0, macOS 27.0, *)
public actor CoreAIEngine: Engine {
    public nonisolated let facts = EngineFacts(
        runtime: "coreai", version: DeviceFacts.current.system, accelerator: .all)
    private let model: LoadedModel
    private let entries: [EntryPoint]
    /// In the order of the entries.
    private let tensors: [InputTensor]
    private var values: [[Float]]

    /// Loads the asset. Throws `KitError.engine`.
    public static func open(_ artifact: ArtifactFolder) async throws -> CoreAIEngine {
        CoreAIEngine(try await LoadedModel(artifact), artifact.manifest.entries)
    }

    private init(_ model: LoadedModel, _ entries: [EntryPoint]) {
        self.model = model
        self.entries = entries
        tensors = entries.map { InputTensor($0.input) }
        values = tensors.map { [Float](repeating: 0, count: $0.count) }
    }

    public func answer(_ picture: Picture) async throws -> Answer {
        let place = try entries.place(of: picture), tensor = tensors[place]
        try values[place].withUnsafeMutableBufferPointer { try tensor.fill($0, from: picture) }
        return try await model.answer(values[place], place)
    }
}

/// The framework does not say which of its types may cross between actors, so none of them does: they stay in here, and
/// only the engine above, one call at a time, uses it.
@available(iOS 27.0, macOS 27.0, *)
private final class LoadedModel: @unchecked Sendable {
    private let manifest: Manifest
    private let functions: [InferenceFunction]

    init(_ artifact: ArtifactFolder) async throws {
        manifest = artifact.manifest
        let file = manifest.file
        guard manifest.input.layout != .picture else {
            throw KitError.engine("\(file) takes a picture, not a tensor")
        }
        do {
            let model = try await AIModel(contentsOf: artifact.file)
            functions = try artifact.manifest.entries.map { entry in
                let name = entry.name ?? "main"
                guard let function = try model.loadFunction(named: name) else {
                    throw KitError.engine("\(file) has no function \"\(name)\"")
                }
                return function
            }
        } catch let error as KitError {
            throw error
        } catch {
            throw KitError.engine("Core AI refuses \(file): \(oneLine(error.localizedDescription))")
        }
    }

    /// Of the values of the entry at `place`.
    func answer(_ values: [Float], _ place: Int) async throws -> Answer {
        var input = NDArray(shape: manifest.entries[place].input.shape, scalarType: .float32)
        copy(values, into: &input)
        let start = ContinuousClock.now
        do {
            var outputs = try await functions[place].run(inputs: [manifest.input.name: input])
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
