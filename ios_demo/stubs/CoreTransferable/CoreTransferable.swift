@_exported import Foundation
@_exported import UniformTypeIdentifiers

public protocol Transferable {
    associatedtype Representation: TransferRepresentation
    @TransferRepresentationBuilder<Self> static var transferRepresentation: Representation { get }
}
public protocol TransferRepresentation: Sendable {
    associatedtype Item: Transferable
}
@resultBuilder public struct TransferRepresentationBuilder<Item> where Item: Transferable {
    public static func buildBlock<Content>(_ content: Content) -> Content
    where Item == Content.Item, Content: TransferRepresentation {
        content
    }
}
public struct DataRepresentation<Item>: TransferRepresentation where Item: Transferable {
    public init() {}
}
extension Data: Transferable {
    public static var transferRepresentation: DataRepresentation<Data> { DataRepresentation<Data>() }
}
extension URL: Transferable {
    public static var transferRepresentation: DataRepresentation<URL> { DataRepresentation<URL>() }
}
