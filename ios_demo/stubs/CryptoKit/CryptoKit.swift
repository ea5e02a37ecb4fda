@_exported import Foundation

public protocol HashFunction {
    associatedtype Digest: Sequence where Digest.Element == UInt8
    init()
    mutating func update(bufferPointer: UnsafeRawBufferPointer)
    func finalize() -> Digest
}
extension HashFunction {
    public static func hash<D>(data: D) -> Self.Digest where D: DataProtocol { fatalError() }
    public mutating func update<D>(data: D) where D: DataProtocol { fatalError() }
}
public struct SHA256Digest: Sequence, Sendable {
    public func makeIterator() -> Array<UInt8>.Iterator { fatalError() }
}
public struct SHA256: HashFunction, Sendable {
    public init() {}
    public mutating func update(bufferPointer: UnsafeRawBufferPointer) { fatalError() }
    public func finalize() -> SHA256Digest { fatalError() }
}
