@_exported import CoreGraphics

public class CVBuffer {}
public typealias CVImageBuffer = CVBuffer
public typealias CVPixelBuffer = CVImageBuffer
public typealias CVReturn = Int32
public typealias CVOptionFlags = UInt64
public typealias CFAllocator = AnyObject
public typealias CFDictionary = [String: Any]

public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: CVOptionFlags
    public init(rawValue: CVOptionFlags) { self.rawValue = rawValue }
    public static var readOnly: CVPixelBufferLockFlags { fatalError() }
}

public var kCVReturnSuccess: CVReturn { fatalError() }
public var kCVPixelFormatType_32BGRA: OSType { fatalError() }
public var kCVPixelFormatType_32ARGB: OSType { fatalError() }
public typealias OSType = UInt32
public let kCVPixelBufferPixelFormatTypeKey: CFString = ""
public let kCVPixelBufferIOSurfacePropertiesKey: CFString = ""
public let kCVPixelBufferCGImageCompatibilityKey: CFString = ""
public let kCVPixelBufferCGBitmapContextCompatibilityKey: CFString = ""

@discardableResult
public func CVPixelBufferCreate(
    _ allocator: CFAllocator?, _ width: Int, _ height: Int, _ pixelFormatType: OSType,
    _ pixelBufferAttributes: CFDictionary?, _ pixelBufferOut: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn { fatalError() }
@discardableResult
public func CVPixelBufferLockBaseAddress(_ pixelBuffer: CVPixelBuffer, _ lockFlags: CVPixelBufferLockFlags) -> CVReturn
{
    fatalError()
}
@discardableResult
public func CVPixelBufferUnlockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ unlockFlags: CVPixelBufferLockFlags
) -> CVReturn { fatalError() }
public func CVPixelBufferGetBaseAddress(_ pixelBuffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { fatalError() }
public func CVPixelBufferGetBytesPerRow(_ pixelBuffer: CVPixelBuffer) -> Int { fatalError() }
public func CVPixelBufferGetWidth(_ pixelBuffer: CVPixelBuffer) -> Int { fatalError() }
public func CVPixelBufferGetHeight(_ pixelBuffer: CVPixelBuffer) -> Int { fatalError() }
public func CVPixelBufferGetPixelFormatType(_ pixelBuffer: CVPixelBuffer) -> OSType { fatalError() }
public func CVPixelBufferGetDataSize(_ pixelBuffer: CVPixelBuffer) -> Int { fatalError() }
