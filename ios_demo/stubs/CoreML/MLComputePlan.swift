@_exported import CoreVideo

public enum MLComputeDevice {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)
    @available(iOS 17.0, macOS 14.0, *)
    public static var allComputeDevices: [MLComputeDevice] { fatalError() }
}
open class MLCPUComputeDevice: NSObject {}
open class MLGPUComputeDevice: NSObject {}
open class MLNeuralEngineComputeDevice: NSObject {}

@available(iOS 17.4, macOS 14.4, *)
public enum MLModelStructure {
    public struct Program {
        public struct Operation {
            public var operatorName: String { fatalError() }
            public var blocks: [Block] { fatalError() }
        }
        public struct Block {
            public var operations: [Operation] { fatalError() }
        }
        public struct Function {
            public var block: Block { fatalError() }
        }
        public var functions: [String: Function] { fatalError() }
    }
    public struct NeuralNetwork {}
    public struct Pipeline {}
    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case pipeline(Pipeline)
    case unsupported
}

@available(iOS 17.4, macOS 14.4, *)
public final class MLComputePlan {
    public struct DeviceUsage {
        public let supported: [MLComputeDevice]
        public let preferred: MLComputeDevice
    }
    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLComputePlan {
        fatalError()
    }
    public var modelStructure: MLModelStructure { fatalError() }
    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> MLComputePlan.DeviceUsage? {
        fatalError()
    }
}
