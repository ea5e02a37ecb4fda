// Core AI of iOS 27, as apple/coreai-models uses it. What is not known to be Sendable is not.
@_exported import Foundation

@available(iOS 27.0, macOS 27.0, *)
public enum AIModelAsset {
    public static func isValid(at url: URL) -> Bool { fatalError() }
}

@available(iOS 27.0, macOS 27.0, *)
public final class AIModel {
    public init(contentsOf url: URL) async throws { fatalError() }
    public func functionDescriptor(for name: String) -> InferenceFunctionDescriptor? { fatalError() }
    public func loadFunction(named name: String) throws -> InferenceFunction? { fatalError() }
}

@available(iOS 27.0, macOS 27.0, *)
public struct InferenceFunctionDescriptor {
    public var inputNames: [String] { fatalError() }
    public var outputNames: [String] { fatalError() }
}

@available(iOS 27.0, macOS 27.0, *)
public final class InferenceFunction {
    public struct Outputs {
        public mutating func remove(_ name: String) -> InferenceValue? { fatalError() }
    }
    public func run(inputs: [String: NDArray]) async throws -> Outputs { fatalError() }
}

@available(iOS 27.0, macOS 27.0, *)
public struct InferenceValue {
    public var ndArray: NDArray? { fatalError() }
}

@available(iOS 27.0, macOS 27.0, *)
public struct NDArray {
    public enum ScalarType: Sendable {
        case float16, float32, int32
    }
    // In place of Span<Int>, which Swift 6.0 does not have.
    public struct Extents {
        public var count: Int { fatalError() }
        public subscript(index: Int) -> Int { fatalError() }
    }
    public struct View<Scalar: BitwiseCopyable> {
        public func withUnsafePointer<R>(_ body: (UnsafePointer<Scalar>, Extents, Extents) throws -> R) rethrows -> R {
            fatalError()
        }
    }
    public struct MutableView<Scalar: BitwiseCopyable> {
        public func withUnsafeMutablePointer<R>(
            _ body: (UnsafeMutablePointer<Scalar>, Extents, Extents) throws -> R
        ) rethrows -> R { fatalError() }
        public mutating func copyElements(fromContentsOf source: some Collection<Scalar>) { fatalError() }
    }
    public init(shape: [Int], scalarType: ScalarType) { fatalError() }
    public var shape: [Int] { fatalError() }
    public var strides: [Int] { fatalError() }
    public var scalarType: ScalarType { fatalError() }
    public func view<Scalar: BitwiseCopyable>(as type: Scalar.Type) -> View<Scalar> { fatalError() }
    public mutating func mutableView<Scalar: BitwiseCopyable>(as type: Scalar.Type) -> MutableView<Scalar> {
        fatalError()
    }
}
