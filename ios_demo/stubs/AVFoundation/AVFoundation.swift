@_exported import CoreMedia
import Dispatch
@_exported import QuartzCore

public struct AVMediaType: Hashable, RawRepresentable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public static let video = AVMediaType(rawValue: "vide")
}

public enum AVAuthorizationStatus: Int, @unchecked Sendable {
    case notDetermined, restricted, denied, authorized
}

public class AVCaptureDevice: NSObject {
    public enum Position: Int, @unchecked Sendable {
        case unspecified, back, front
    }
    public struct DeviceType: Hashable, RawRepresentable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        public static let builtInWideAngleCamera = DeviceType(rawValue: "")
    }
    public class func authorizationStatus(for mediaType: AVMediaType) -> AVAuthorizationStatus { fatalError() }
    public class func requestAccess(for mediaType: AVMediaType) async -> Bool { fatalError() }
    public class func `default`(
        _ deviceType: AVCaptureDevice.DeviceType, for mediaType: AVMediaType?, position: AVCaptureDevice.Position
    ) -> AVCaptureDevice? { fatalError() }
    public class func `default`(for mediaType: AVMediaType) -> AVCaptureDevice? { fatalError() }
}

extension AVCaptureDevice {
    @available(iOS 17.0, *)
    public class RotationCoordinator: NSObject {
        public init(device: AVCaptureDevice, previewLayer: CALayer?) { fatalError() }
        public var videoRotationAngleForHorizonLevelPreview: CGFloat { fatalError() }
        public var videoRotationAngleForHorizonLevelCapture: CGFloat { fatalError() }
    }
}

open class AVCaptureInput: NSObject {}

open class AVCaptureDeviceInput: AVCaptureInput {
    public init(device: AVCaptureDevice) throws { fatalError() }
    open var device: AVCaptureDevice { fatalError() }
}

open class AVCaptureConnection: NSObject {
    @available(iOS 17.0, *)
    open func isVideoRotationAngleSupported(_ videoRotationAngle: CGFloat) -> Bool { fatalError() }
    @available(iOS 17.0, *)
    open var videoRotationAngle: CGFloat = 0
}

open class AVCaptureOutput: NSObject {
    open func connection(with mediaType: AVMediaType) -> AVCaptureConnection? { fatalError() }
}

open class AVCaptureVideoDataOutput: AVCaptureOutput {
    public override init() { super.init() }
    open func setSampleBufferDelegate(
        _ sampleBufferDelegate: (any AVCaptureVideoDataOutputSampleBufferDelegate)?,
        queue sampleBufferCallbackQueue: DispatchQueue?
    ) { fatalError() }
    open var videoSettings: [String: Any]!
    open var alwaysDiscardsLateVideoFrames: Bool = true
}

// Its methods are optional in Objective-C; here a default stands for that.
public protocol AVCaptureVideoDataOutputSampleBufferDelegate: NSObjectProtocol {
    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection)
}

open class AVCaptureSession: NSObject {
    public struct Preset: Hashable, RawRepresentable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        public static let vga640x480 = Preset(rawValue: "")
        public static let hd1280x720 = Preset(rawValue: "")
        public static let photo = Preset(rawValue: "")
    }
    public static var wasInterruptedNotification: NSNotification.Name { fatalError() }
    public static var interruptionEndedNotification: NSNotification.Name { fatalError() }
    public static var runtimeErrorNotification: NSNotification.Name { fatalError() }
    public override init() { super.init() }
    open func canSetSessionPreset(_ preset: AVCaptureSession.Preset) -> Bool { fatalError() }
    open var sessionPreset: AVCaptureSession.Preset = .photo
    open func canAddInput(_ input: AVCaptureInput) -> Bool { fatalError() }
    open func addInput(_ input: AVCaptureInput) { fatalError() }
    open func canAddOutput(_ output: AVCaptureOutput) -> Bool { fatalError() }
    open func addOutput(_ output: AVCaptureOutput) { fatalError() }
    open func beginConfiguration() { fatalError() }
    open func commitConfiguration() { fatalError() }
    open var isRunning: Bool { fatalError() }
    open func startRunning() { fatalError() }
    open func stopRunning() { fatalError() }
}

public struct AVLayerVideoGravity: Hashable, RawRepresentable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public static let resizeAspect = AVLayerVideoGravity(rawValue: "")
    public static let resizeAspectFill = AVLayerVideoGravity(rawValue: "")
    public static let resize = AVLayerVideoGravity(rawValue: "")
}

open class AVCaptureVideoPreviewLayer: CALayer {
    public init(session: AVCaptureSession) { fatalError() }
    open var session: AVCaptureSession?
    open var connection: AVCaptureConnection? { fatalError() }
    open var videoGravity: AVLayerVideoGravity = .resizeAspect
}
