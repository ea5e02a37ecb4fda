@_exported import CoreGraphics

open class CALayer: NSObject {
    open var frame: CGRect = .zero
    open var bounds: CGRect = .zero
    open func addSublayer(_ layer: CALayer) { fatalError() }
}
