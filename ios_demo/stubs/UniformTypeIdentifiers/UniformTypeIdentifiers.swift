@_exported import Foundation

public struct UTType: Hashable, Sendable {
    public static var folder: UTType { fatalError() }
    public static var image: UTType { fatalError() }
    public static var json: UTType { fatalError() }
    public static var zip: UTType { fatalError() }
}
