@_exported import CoreVideo

public enum DataType: Int32, Sendable {
    case byte, char, short, int, long, half, float, double
}

public protocol Scalar {
    static var dataType: DataType { get }
}
extension Float: Scalar { public static var dataType: DataType { .float } }
extension UInt8: Scalar { public static var dataType: DataType { .byte } }
extension Int64: Scalar { public static var dataType: DataType { .long } }

public enum ShapeDynamism: Int, Sendable {
    case `static`, dynamicBound, dynamicUnbound
}

public final class Tensor<T: Scalar> {
    public convenience init(
        _ scalars: [T], shape: [Int] = [], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) { fatalError() }
    public convenience init(
        _ scalars: inout [T], shape: [Int] = [], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) { fatalError() }
    public convenience init(_ value: Value) throws { fatalError() }
    public convenience init(_ values: [Value]) throws { fatalError() }
    public var shape: [Int] { fatalError() }
    public var count: Int { fatalError() }
    public func scalars() -> [T] { fatalError() }
    public func withUnsafeBytes<R>(_ body: (UnsafeBufferPointer<T>) throws -> R) throws -> R { fatalError() }
    public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableBufferPointer<T>) throws -> R) throws -> R {
        fatalError()
    }
}

public protocol ValueConvertible {
    func asValue() -> Value
}
extension Value: ValueConvertible {
    public func asValue() -> Value { self }
}
extension Tensor: ValueConvertible {
    public func asValue() -> Value { fatalError() }
}

public final class Value: NSObject {
    public var isTensor: Bool { fatalError() }
    public var isString: Bool { fatalError() }
    public var stringValue: String? { fatalError() }
    public func tensor<T: Scalar>() -> Tensor<T>? { fatalError() }
}

public enum ModuleLoadMode: Int, Sendable {
    case file, mmap, mmapUseMlock, mmapUseMlockIgnoreErrors
}

public final class MethodMetadata: NSObject {
    public var name: String { fatalError() }
    public var backendNames: [String] { fatalError() }
}

open class Module: NSObject {
    public init(filePath: String, loadMode: ModuleLoadMode) { fatalError() }
    public convenience init(filePath: String) { fatalError() }
    open func load() throws { fatalError() }
    open func load(_ method: String) throws { fatalError() }
    open func isLoaded() -> Bool { fatalError() }
    open func methodNames() throws -> Set<String> { fatalError() }
    open func methodMetadata(_ method: String) throws -> MethodMetadata { fatalError() }
    public func execute(_ method: String, _ inputs: [ValueConvertible]) throws -> [Value] { fatalError() }
    public func execute(_ method: String, _ inputs: ValueConvertible...) throws -> [Value] { fatalError() }
    public func forward(_ inputs: [ValueConvertible]) throws -> [Value] { fatalError() }
    public func forward(_ inputs: ValueConvertible...) throws -> [Value] { fatalError() }
}

public final class Runtime: NSObject {
    public static var shared: Runtime { fatalError() }
    public var registeredBackendNames: [String] { fatalError() }
    public func isBackendAvailable(_ backendName: String) -> Bool { fatalError() }
}
