/// The input of a phone file as an app must fill it. Mean and std of the training are in the graph: do not normalize.
public struct AppInput: Equatable, Sendable {
    public enum Layout: String, Sendable { case nchw = "NCHW", nhwc = "NHWC", picture }

    public enum Filter: String, Sendable { case bilinear, bicubic }

    /// How an upright photograph comes to the size of the input: resize, then crop the center.
    public struct Resizing: Equatable, Sendable {
        public enum Mode: String, Sendable { case shorterSide = "shorter side", squash }

        public let mode: Mode
        /// In pixels: the shorter side, or height and width.
        public let size: [Int]
        public let filter: Filter
        /// Whether the filter widens with the reduction, as Pillow's does. Only true is understood.
        public let antialias: Bool
        /// Height and width; nil where nothing is cropped.
        public let centerCrop: [Int]?

        public init(mode: Mode, size: [Int], filter: Filter, antialias: Bool = true, centerCrop: [Int]?) {
            self.mode = mode
            self.size = size
            self.filter = filter
            self.antialias = antialias
            self.centerCrop = centerCrop
        }

        init(_ node: JSONNode) throws {
            mode = try node["mode"].choice(Mode.self)
            size = try node["size"].list().map { try $0.integer() }
            filter = try node["filter"].choice(Filter.self)
            antialias = try node["antialias"].bool()
            centerCrop = try node.optional("center_crop")?.list().map { try $0.integer() }
        }
    }

    public let name: String
    public let layout: Layout
    /// [1, 3, H, W], or [1, H, W, 3] for `nhwc`.
    public let shape: [Int]
    public let dtype: String
    public let channelOrder: String
    /// Of the values; a picture's are bytes.
    public let range: [Double]
    public let meanAndStd: String
    public let resizing: Resizing

    /// An input of one RGB image with values in 0 to 1, or a picture's bytes.
    init(name: String, layout: Layout, shape: [Int], resizing: Resizing) {
        self.name = name
        self.layout = layout
        self.shape = shape
        dtype = layout == .picture ? "uint8" : "float32"
        channelOrder = "RGB"
        range = layout == .picture ? [0, 255] : [0, 1]
        meanAndStd = "in the graph"
        self.resizing = resizing
    }

    /// Reads and checks the manifest's `app_input`. Throws `KitError.artifact`.
    init(_ node: JSONNode) throws {
        name = try node["name"].text()
        layout = try node["layout"].choice(Layout.self)
        shape = try node["shape"].list().map { try $0.integer() }
        dtype = try node["dtype"].text()
        channelOrder = try node["channel_order"].text()
        range = try node["range"].list().map { try $0.number() }
        meanAndStd = try node["mean_and_std"].text()
        resizing = try Resizing(node["resizing"])
        try check()
    }

    /// Of the image in pixels.
    public var height: Int { channelsLast ? shape[1] : shape[2] }
    public var width: Int { channelsLast ? shape[2] : shape[3] }
    /// Whether `shape` has the channels last. A picture's shape says it itself; both orders name the same size.
    var channelsLast: Bool { layout == .nhwc || (layout == .picture && shape[3] == 3 && shape[1] != 3) }

    static let maxSide = 4096

    /// Throws `KitError.artifact` unless every member is understood and all fit each other.
    func check() throws {
        func refuse(_ what: String) -> KitError { .artifact("manifest.json: app_input.\(what)") }
        guard shape.count == 4, shape[0] == 1, shape[channelsLast ? 3 : 1] == 3 else {
            throw refuse("shape \(shape) is not one RGB image in the layout \(layout.rawValue)")
        }
        guard (1...Self.maxSide).contains(height), (1...Self.maxSide).contains(width) else {
            throw refuse("shape \(shape) has a side outside 1 to \(Self.maxSide) pixels")
        }
        guard dtype == (layout == .picture ? "uint8" : "float32") else {
            throw refuse("dtype \"\(dtype)\" is not known to this app for the layout \(layout.rawValue)")
        }
        guard channelOrder == "RGB" else { throw refuse("channel_order \"\(channelOrder)\" is not known to this app") }
        guard meanAndStd == "in the graph" else {
            throw refuse("mean_and_std \"\(meanAndStd)\" is not known to this app")
        }
        guard range.count == 2, range.allSatisfy(\.isFinite), range[0] < range[1], range.allSatisfy({ abs($0) <= 1e6 })
        else {
            throw refuse("range is not two increasing numbers")
        }
        guard layout != .picture || range == [0, 255] else { throw refuse("range of a picture is not 0 to 255") }
        guard resizing.antialias else { throw refuse("resizing without antialias is not known to this app") }
        guard resizing.size.allSatisfy({ (1...Self.maxSide).contains($0) }) else {
            throw refuse("resizing.size \(resizing.size) has a side outside 1 to \(Self.maxSide) pixels")
        }
        switch resizing.mode {
        case .squash:
            guard resizing.size == [height, width], resizing.centerCrop == nil else {
                throw refuse("resizing squashes to another size than the input's \(height)x\(width)")
            }
        case .shorterSide:
            guard resizing.size.count == 1, resizing.centerCrop == [height, width] else {
                throw refuse("resizing crops to another size than the input's \(height)x\(width)")
            }
        }
    }
}
