/// Where a model runs, by the names of the device report.
public enum Accelerator: String, CaseIterable, Sendable {
    case cpu, gpu, npu, ane
    /// Core ML's own choice among CPU, GPU and Neural Engine.
    case all

    /// For people.
    public var title: String {
        switch self {
        case .cpu: "CPU"
        case .gpu: "GPU"
        case .npu: "NPU"
        case .ane: "Neural Engine"
        case .all: "Automatic"
        }
    }
}

/// What a report says of an engine.
public struct EngineFacts: Equatable, Sendable {
    /// "coreml", "executorch" or "coreai".
    public let runtime: String
    /// Of Core ML and Core AI, the system's, such as "iOS 18.1"; nil where the runtime does not say.
    public let version: String?
    public let accelerator: Accelerator
    /// The arithmetic that was asked of the accelerator, "fp32" or "fp16"; nil where the file alone decides.
    public let precision: String?
    /// Whether every operator runs on the accelerator; nil where the runtime does not say.
    public let fullyAccelerated: Bool?

    public init(
        runtime: String, version: String? = nil, accelerator: Accelerator, precision: String? = nil,
        fullyAccelerated: Bool? = nil
    ) {
        self.runtime = runtime
        self.version = version
        self.accelerator = accelerator
        self.precision = precision
        self.fullyAccelerated = fullyAccelerated
    }
}

extension EngineFacts {
    /// Of a .pte file, whose delegate was chosen when it was converted.
    ///
    /// XNNPACK and the portable kernels use the CPU. Core ML chooses by itself, and does not say through ExecuTorch whether
    /// it left a part of what it took to the CPU.
    init(executorch manifest: Manifest) {
        let accelerator: Accelerator =
            switch manifest.backend {
            case "coreml": .all
            case "mps", "mlx", "vulkan": .gpu
            default: .cpu
            }
        var complete = manifest.undelegatedOperators.map { $0 == 0 }
        if accelerator == .cpu { complete = true }
        if accelerator == .all, complete == true { complete = nil }
        self.init(runtime: "executorch", accelerator: accelerator, fullyAccelerated: complete)
    }
}

/// An answer and the time that it took.
public struct Answer: Equatable, Sendable {
    /// All outputs, in the order of `Manifest.heads`, each in row-major order.
    public let outputs: [Float]
    /// Run and read-back, without filling the input.
    public let milliseconds: Double

    public init(outputs: [Float], milliseconds: Double) {
        self.outputs = outputs
        self.milliseconds = milliseconds
    }
}

/// A loaded model. An actor: its buffers are made once and used by one call at a time.
public protocol Engine: Actor {
    nonisolated var facts: EngineFacts { get }

    /// Runs a picture of an input's size, which says what entry is meant. Throws `KitError.engine` where the runtime fails.
    func answer(_ picture: Picture) async throws -> Answer
}

/// A runtime and an accelerator that this build can try for an artifact.
public struct EngineChoice: Hashable, Identifiable, Sendable {
    public let runtime: String
    public let accelerator: Accelerator

    public init(runtime: String, accelerator: Accelerator) {
        self.runtime = runtime
        self.accelerator = accelerator
    }

    public var id: String { "\(runtime)-\(accelerator.rawValue)" }
    /// Such as "Core ML, Neural Engine".
    public var title: String {
        let names = ["coreml": "Core ML", "executorch": "ExecuTorch", "coreai": "Core AI"]
        return "\(names[runtime] ?? runtime), \(accelerator.title)"
    }

    /// What this build can try for an artifact, the usual choice first; empty where no runtime in it reads the format.
    public static func all(for manifest: Manifest) -> [EngineChoice] {
        switch manifest.format {
        #if canImport(CoreML)
        case "coreml": return CoreMLEngine.accelerators.map { EngineChoice(runtime: "coreml", accelerator: $0) }
        #endif
        #if canImport(ExecuTorch)
        case "executorch":
            return [
                EngineChoice(runtime: "executorch", accelerator: EngineFacts(executorch: manifest).accelerator)
            ]
        #endif
        #if canImport(CoreAI)
        case "coreai": return [EngineChoice(runtime: "coreai", accelerator: .all)]
        #endif
        default: return []
        }
    }

    /// What this device lacks for it, in words; nil where it lacks nothing that is known before a file is loaded.
    public var missing: String? {
        #if canImport(CoreML)
        if runtime == "coreml" { return CoreMLEngine.missing(accelerator) }
        #endif
        return nil
    }

    /// Checks the file, loads it, and gives an engine for it. Nothing falls back to another accelerator silently.
    ///
    /// Throws `KitError.artifact` for a changed file, and `KitError.engine` where the runtime is not in this build or
    /// refuses the file.
    public func open(_ artifact: ArtifactFolder) async throws -> any Engine {
        guard Self.all(for: artifact.manifest).contains(self) else {
            throw KitError.engine("this build of the app does not run \(artifact.manifest.format) files on \(title)")
        }
        if let missing { throw KitError.engine(missing) }
        try artifact.checkFile()
        switch runtime {
        #if canImport(CoreML)
        case "coreml": return try await CoreMLEngine.open(artifact, accelerator: accelerator)
        #endif
        #if canImport(ExecuTorch)
        case "executorch": return try ExecuTorchEngine(artifact)
        #endif
        #if canImport(CoreAI)
        case "coreai":
            guard #available(iOS 27, macOS 27, *) else { throw KitError.engine("Core AI needs iOS 27") }
            return try await CoreAIEngine.open(artifact)
        #endif
        default: throw KitError.engine("\(runtime) is not in this build")
        }
    }
}
