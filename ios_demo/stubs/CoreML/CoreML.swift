@_exported import CoreVideo

public enum MLComputeUnits: Int, @unchecked Sendable {
    case cpuOnly = 0
    case cpuAndGPU = 1
    case all = 2
    @available(iOS 16.0, macOS 13.0, *)
    case cpuAndNeuralEngine = 3
}

open class MLModelConfiguration: NSObject {
    public override init() { super.init() }
    open var computeUnits: MLComputeUnits = .all
    @available(iOS 18.0, macOS 15.0, *)
    open var functionName: String? {
        get { fatalError() }
        set { fatalError() }
    }
}

public enum MLFeatureType: Int, @unchecked Sendable {
    case invalid = 0
    case int64 = 1
    case double = 2
    case string = 3
    case image = 4
    case multiArray = 5
    case dictionary = 6
    case sequence = 7
}

public enum MLMultiArrayDataType: Int, @unchecked Sendable {
    case double = 65600
    case float32 = 65568
    case float16 = 65552
    case int32 = 131104
}

open class MLMultiArray: NSObject {
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws { fatalError() }
    open var dataType: MLMultiArrayDataType { fatalError() }
    open var shape: [NSNumber] { fatalError() }
    open var strides: [NSNumber] { fatalError() }
    open var count: Int { fatalError() }
    open subscript(idx: Int) -> NSNumber {
        get { fatalError() }
        set { fatalError() }
    }
    public func withUnsafeBufferPointer<S, R>(
        ofType type: S.Type, _ body: (UnsafeBufferPointer<S>) throws -> R
    ) rethrows -> R where S: MLShapedArrayScalar { fatalError() }
}

public protocol MLShapedArrayScalar {}
extension Float: MLShapedArrayScalar {}
extension Double: MLShapedArrayScalar {}
extension Int32: MLShapedArrayScalar {}

public struct MLShapedArray<Scalar> where Scalar: MLShapedArrayScalar {
    public init(_ multiArray: MLMultiArray) { fatalError() }
    public init(converting multiArray: MLMultiArray) { fatalError() }
    public init(scalars: some Sequence<Scalar>, shape: [Int]) { fatalError() }
    public var shape: [Int] { fatalError() }
    public var scalars: [Scalar] { fatalError() }
}

open class MLFeatureValue: NSObject {
    public init(pixelBuffer value: CVPixelBuffer) { fatalError() }
    public init(multiArray value: MLMultiArray) { fatalError() }
    open var type: MLFeatureType { fatalError() }
    open var multiArrayValue: MLMultiArray? { fatalError() }
    open var stringValue: String { fatalError() }
    open var dictionaryValue: [AnyHashable: NSNumber] { fatalError() }
    open var imageBufferValue: CVPixelBuffer? { fatalError() }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    public init(dictionary: [String: Any]) throws { fatalError() }
    open var featureNames: Set<String> { fatalError() }
    open func featureValue(for featureName: String) -> MLFeatureValue? { fatalError() }
}

open class MLImageConstraint: NSObject {
    open var pixelsHigh: Int { fatalError() }
    open var pixelsWide: Int { fatalError() }
    open var pixelFormatType: OSType { fatalError() }
}

open class MLFeatureDescription: NSObject {
    open var name: String { fatalError() }
    open var type: MLFeatureType { fatalError() }
    open var imageConstraint: MLImageConstraint? { fatalError() }
}

open class MLModelDescription: NSObject {
    open var inputDescriptionsByName: [String: MLFeatureDescription] { fatalError() }
    open var outputDescriptionsByName: [String: MLFeatureDescription] { fatalError() }
    open var classLabels: [Any]? { fatalError() }
}

open class MLPredictionOptions: NSObject {
    public override init() { super.init() }
}

open class MLModel: NSObject {
    @available(iOS 16.0, macOS 13.0, *)
    open class func compileModel(at modelURL: URL) async throws -> URL { fatalError() }
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws { fatalError() }
    open class func load(contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()) async throws
        -> MLModel
    {
        fatalError()
    }
    open var modelDescription: MLModelDescription { fatalError() }
    open func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider { fatalError() }
    open func prediction(from input: any MLFeatureProvider, options: MLPredictionOptions) throws
        -> any MLFeatureProvider
    {
        fatalError()
    }
    @available(iOS 17.0, macOS 14.0, *)
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider { fatalError() }
}
