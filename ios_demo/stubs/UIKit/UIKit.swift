// What Foundation has on Apple's systems alone comes from here as well.
@_exported import CoreGraphics
@_exported import QuartzCore

extension ProcessInfo {
    public enum ThermalState: Int, Sendable {
        case nominal, fair, serious, critical
    }
    public var thermalState: ThermalState { fatalError() }
}

public struct NSKeyValueObservedChange<Value> {
    public let newValue: Value?
    public let oldValue: Value?
}
public class NSKeyValueObservation: NSObject {
    public func invalidate() { fatalError() }
}
public struct NSKeyValueObservingOptions: OptionSet, Sendable {
    public let rawValue: UInt
    public init(rawValue: UInt) { self.rawValue = rawValue }
    public static let new = NSKeyValueObservingOptions(rawValue: 1)
    public static let old = NSKeyValueObservingOptions(rawValue: 2)
    public static let initial = NSKeyValueObservingOptions(rawValue: 4)
}
public protocol _KeyValueCodingAndObserving {}
extension NSObject: _KeyValueCodingAndObserving {}
extension _KeyValueCodingAndObserving {
    public func observe<Value>(
        _ keyPath: KeyPath<Self, Value>, options: NSKeyValueObservingOptions = [],
        changeHandler: @escaping (Self, NSKeyValueObservedChange<Value>) -> Void
    ) -> NSKeyValueObservation { fatalError() }
}

extension URL {
    public func startAccessingSecurityScopedResource() -> Bool { fatalError() }
    public func stopAccessingSecurityScopedResource() { fatalError() }
}

@MainActor open class UIResponder: NSObject {
    public override init() { super.init() }
}

@MainActor open class UIView: UIResponder {
    public init(frame: CGRect) { fatalError() }
    public required init?(coder: NSCoder) { fatalError() }
    open class var layerClass: AnyClass { fatalError() }
    open var layer: CALayer { fatalError() }
    open var bounds: CGRect = .zero
    open var window: UIWindow? { fatalError() }
    open func didMoveToWindow() { fatalError() }
    open func layoutSubviews() { fatalError() }
    open func setNeedsLayout() { fatalError() }
}

@MainActor open class UIWindow: UIView {}

public class UIImage: NSObject, @unchecked Sendable {
    public enum Orientation: Int, @unchecked Sendable {
        case up, down, left, right, upMirrored, downMirrored, leftMirrored, rightMirrored
    }
    public init?(data: Data) { fatalError() }
    public init(cgImage: CGImage) { fatalError() }
    public var cgImage: CGImage? { fatalError() }
    public var imageOrientation: UIImage.Orientation { fatalError() }
    public var size: CGSize { fatalError() }
    public func byPreparingThumbnail(ofSize size: CGSize) async -> UIImage? { fatalError() }
}

@MainActor public class UIDevice: NSObject {
    public class var current: UIDevice { fatalError() }
    public var model: String { fatalError() }
    public var systemName: String { fatalError() }
    public var systemVersion: String { fatalError() }
}

@MainActor open class UIApplication: UIResponder {
    public class var shared: UIApplication { fatalError() }
    public nonisolated class var openSettingsURLString: String { fatalError() }
    open var isIdleTimerDisabled = false
}
