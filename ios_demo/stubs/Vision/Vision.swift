@_exported import CoreML
@_exported import ImageIO

public typealias VNConfidence = Float
public typealias VNRequestCompletionHandler = (VNRequest, (any Error)?) -> Void

public enum VNImageCropAndScaleOption: UInt, @unchecked Sendable {
    case centerCrop = 0
    case scaleFit = 1
    case scaleFill = 2
}

public struct VNImageOption: Hashable, RawRepresentable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

open class VNObservation: NSObject {
    open var confidence: VNConfidence { fatalError() }
}
open class VNClassificationObservation: VNObservation {
    open var identifier: String { fatalError() }
}
open class VNCoreMLFeatureValueObservation: VNObservation {
    open var featureValue: MLFeatureValue { fatalError() }
    open var featureName: String { fatalError() }
}

open class VNRequest: NSObject {
    open var results: [VNObservation]? { fatalError() }
}
open class VNImageBasedRequest: VNRequest {
    open var regionOfInterest: CGRect = .zero
}
open class VNCoreMLModel: NSObject {
    public init(for model: MLModel) throws { fatalError() }
}
open class VNCoreMLRequest: VNImageBasedRequest {
    public init(model: VNCoreMLModel, completionHandler: VNRequestCompletionHandler? = nil) { fatalError() }
    open var imageCropAndScaleOption: VNImageCropAndScaleOption = .centerCrop
}

open class VNImageRequestHandler: NSObject {
    public init(
        cvPixelBuffer pixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation,
        options: [VNImageOption: Any] = [:]
    ) { fatalError() }
    public init(cgImage image: CGImage, orientation: CGImagePropertyOrientation, options: [VNImageOption: Any] = [:]) {
        fatalError()
    }
    open func perform(_ requests: [VNRequest]) throws { fatalError() }
}
