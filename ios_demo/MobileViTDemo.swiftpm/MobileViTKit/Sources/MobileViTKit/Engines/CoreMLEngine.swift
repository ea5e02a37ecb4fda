#if canImport(CoreML)
import CoreML
import CoreVideo
import Foundation

/// A Core ML package on one choice of compute units. It takes the picture itself: mean, std and channel order are in it.
public actor CoreMLEngine: Engine {
    /// "ane" and "gpu" allow the CPU too: Core ML has no choice without it. `fullyAccelerated` says what is left to it.
    public static let accelerators: [Accelerator] = [.all, .ane, .gpu, .cpu]

    /// What this device lacks for an accelerator; without it, Core ML would compute on the CPU and not say so.
    static func missing(_ accelerator: Accelerator) -> String? {
        let devices = MLComputeDevice.allComputeDevices
        switch accelerator {
        case .gpu where !devices.contains(where: { if case .gpu = $0 { true } else { false } }):
            return "this device has no GPU that Core ML uses"
        case .ane where !devices.contains(where: { if case .neuralEngine = $0 { true } else { false } }):
            return "this device has no Neural Engine"
        default: return nil
        }
    }

    public nonisolated let facts: EngineFacts
    private let entries: [EntryPoint]
    /// In the order of the entries.
    private let functions: [Function]
    private let answerNames: [String]
    private let compiled: URL

    /// Compiles the package for this device and loads it. Throws `KitError.engine`.
    public static func open(_ artifact: ArtifactFolder, accelerator: Accelerator) async throws -> CoreMLEngine {
        guard artifact.manifest.input.layout == .picture else {
            throw KitError.engine("\(artifact.manifest.file) takes no picture, which this app feeds Core ML")
        }
        if artifact.manifest.entries.count > 1 {
            guard #available(iOS 18, macOS 15, *) else {
                throw KitError.engine("\(artifact.manifest.file) has several input sizes, which need iOS 18")
            }
        }
        let compiled: URL
        do { compiled = try await MLModel.compileModel(at: artifact.file) } catch { throw refusal(artifact, error) }
        do {
            let complete = await isFullyAccelerated(compiled, accelerator, artifact.manifest.entries)
            return try CoreMLEngine(
                artifact.manifest, compiled: compiled, accelerator: accelerator, fullyAccelerated: complete)
        } catch {
            try? FileManager.default.removeItem(at: compiled)
            throw error as? KitError ?? refusal(artifact, error)
        }
    }

    private static func refusal(_ artifact: ArtifactFolder, _ error: any Error) -> KitError {
        .engine("Core ML refuses \(artifact.manifest.file): \(oneLine(error.localizedDescription))")
    }

    private init(_ manifest: Manifest, compiled: URL, accelerator: Accelerator, fullyAccelerated: Bool?) throws {
        self.compiled = compiled
        facts = EngineFacts(
            runtime: "coreml", version: DeviceFacts.current.system, accelerator: accelerator,
            fullyAccelerated: fullyAccelerated)
        entries = manifest.entries
        functions = try manifest.entries.map { entry in
            let configuration = Self.configuration(accelerator, entry)
            return try Function(try MLModel(contentsOf: compiled, configuration: configuration), entry.input, manifest)
        }
        answerNames = manifest.heads.map(\.name)
    }

    /// An entry of the package, with the picture that it takes.
    private struct Function {
        let model: MLModel
        let provider: MLDictionaryFeatureProvider
        let buffer: CVPixelBuffer
        let tensor: InputTensor

        init(_ model: MLModel, _ input: AppInput, _ manifest: Manifest) throws {
            self.model = model
            let constraint = model.modelDescription.inputDescriptionsByName[input.name]?.imageConstraint
            guard constraint?.pixelsWide == input.width, constraint?.pixelsHigh == input.height else {
                throw KitError.engine(
                    "\(manifest.file) does not take a picture \"\(input.name)\" of \(input.width)x\(input.height)")
            }
            for head in manifest.heads where model.modelDescription.outputDescriptionsByName[head.name] == nil {
                throw KitError.engine("\(manifest.file) has no output \"\(oneLine(head.name))\"")
            }
            var created: CVPixelBuffer?
            let attributes: [CFString: Any] = [kCVPixelBufferIOSurfacePropertiesKey: [CFString: Any]()]
            let status = CVPixelBufferCreate(
                nil, input.width, input.height, kCVPixelFormatType_32BGRA, attributes as CFDictionary, &created)
            guard status == kCVReturnSuccess, let created else {
                throw KitError.engine("no pixel buffer could be made (\(status))")
            }
            buffer = created
            provider = try MLDictionaryFeatureProvider(dictionary: [input.name: MLFeatureValue(pixelBuffer: created)])
            tensor = InputTensor(input)
        }

        func fill(_ picture: Picture) throws {
            guard CVPixelBufferLockBaseAddress(buffer, []) == kCVReturnSuccess else {
                throw KitError.engine("the pixel buffer is not accessible")
            }
            defer { _ = CVPixelBufferUnlockBaseAddress(buffer, []) }
            guard let base = CVPixelBufferGetBaseAddress(buffer) else {
                throw KitError.engine("the pixel buffer is not accessible")
            }
            let bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
            let memory = UnsafeMutableRawBufferPointer(start: base, count: bytesPerRow * tensor.height)
            try tensor.fill(bgra: memory, bytesPerRow: bytesPerRow, from: picture)
        }
    }

    deinit { try? FileManager.default.removeItem(at: compiled) }

    public func answer(_ picture: Picture) throws -> Answer {
        let function = functions[try entries.place(of: picture)]
        try function.fill(picture)
        let start = ContinuousClock.now
        let outputs = try run(function)
        return Answer(outputs: outputs, milliseconds: milliseconds(since: start))
    }

    /// Not async: the framework's own async `prediction` would leave the actor.
    private func run(_ function: Function) throws -> [Float] {
        let result: any MLFeatureProvider
        do { result = try function.model.prediction(from: function.provider) } catch {
            throw KitError.engine("Core ML failed: \(oneLine(error.localizedDescription))")
        }
        return try answerNames.flatMap { name in
            guard let array = result.featureValue(for: name)?.multiArrayValue else {
                throw KitError.engine("Core ML answered without \"\(oneLine(name))\"")
            }
            return floats(array)
        }
    }

    /// In row-major order.
    private func floats(_ array: MLMultiArray) -> [Float] {
        if array.dataType == .float32, isDense(array) {
            return array.withUnsafeBufferPointer(ofType: Float.self) { Array($0) }
        }
        return (0..<array.count).map { array[$0].floatValue }
    }

    private func isDense(_ array: MLMultiArray) -> Bool {
        var expected = 1
        for (size, stride) in zip(array.shape, array.strides).reversed() {
            guard stride.intValue == expected || size.intValue == 1 else { return false }
            expected *= size.intValue
        }
        return true
    }

    private static func configuration(_ accelerator: Accelerator, _ entry: EntryPoint) -> MLModelConfiguration {
        let configuration = MLModelConfiguration()
        if let name = entry.name, #available(iOS 18, macOS 15, *) { configuration.functionName = name }
        configuration.computeUnits =
            switch accelerator {
            case .cpu: .cpuOnly
            case .gpu: .cpuAndGPU
            case .ane, .npu: .cpuAndNeuralEngine
            case .all: .all
            }
        return configuration
    }

    /// Whether Core ML plans every operator on the accelerator, or, where it chooses itself, none on the CPU.
    ///
    /// nil before iOS 17.4, and where it has no plan. Constants have no place, and `classify` only looks up a label.
    private static func isFullyAccelerated(
        _ compiled: URL, _ accelerator: Accelerator, _ entries: [EntryPoint]
    ) async -> Bool? {
        guard #available(iOS 17.4, macOS 14.4, *) else { return nil }
        var isKnown = true
        for entry in entries {
            switch await isFullyAccelerated(compiled, accelerator, entry) {
            case false?: return false
            case nil: isKnown = false
            case true?: break
            }
        }
        return isKnown ? true : nil
    }

    @available(iOS 17.4, macOS 14.4, *)
    private static func isFullyAccelerated(
        _ compiled: URL, _ accelerator: Accelerator, _ entry: EntryPoint
    ) async -> Bool? {
        guard
            let plan = try? await MLComputePlan.load(
                contentsOf: compiled, configuration: configuration(accelerator, entry)),
            case .program(let program) = plan.modelStructure, let main = program.functions[entry.name ?? "main"]
        else { return nil }
        var found = false
        for operation in operations(of: main.block) where !operation.operatorName.hasSuffix("classify") {
            guard let device = plan.deviceUsage(for: operation)?.preferred else { continue }
            found = true
            if !fits(device, accelerator) { return false }
        }
        return found ? true : nil
    }

    @available(iOS 17.4, macOS 14.4, *)
    private static func operations(of block: MLModelStructure.Program.Block) -> [MLModelStructure.Program.Operation] {
        block.operations.flatMap { [$0] + $0.blocks.flatMap(operations) }
    }

    private static func fits(_ device: MLComputeDevice, _ accelerator: Accelerator) -> Bool {
        switch (device, accelerator) {
        case (.cpu, .cpu), (.gpu, .gpu), (.neuralEngine, .ane), (.neuralEngine, .npu), (.gpu, .all),
            (.neuralEngine, .all):
            true
        default: false
        }
    }
}
#endif
