/// An upright RGB picture of 8 bits a channel.
public struct Picture: Equatable, Sendable {
    public let width: Int, height: Int
    /// [height, width, 3] in row-major order; its count never changes.
    public internal(set) var pixels: [UInt8]

    /// A black picture. Sides are positive.
    public init(width: Int, height: Int) {
        precondition(width > 0 && height > 0, "a picture has pixels")
        self.width = width
        self.height = height
        pixels = [UInt8](repeating: 0, count: 3 * width * height)
    }

    /// Throws `KitError.picture` unless there are 3 bytes for each pixel.
    public init(width: Int, height: Int, pixels: [UInt8]) throws {
        guard width > 0, height > 0, product([width, height], 3) == pixels.count else {
            throw KitError.picture("\(pixels.count) bytes are not an RGB picture of \(width)x\(height)")
        }
        self.width = width
        self.height = height
        self.pixels = pixels
    }
}

/// The eight turns of EXIF: what has to be done to the stored pixels. The raw values are those of EXIF and of
/// `CGImagePropertyOrientation`.
public enum Orientation: Int, CaseIterable, Sendable {
    case up = 1, upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left

    /// Of EXIF data, where anything but 1 to 8 says nothing.
    public init(exif: Int) { self = Orientation(rawValue: exif) ?? .up }

    /// Whether width and height trade places.
    var isTransposed: Bool { rawValue >= 5 }
}

/// Where the pixels of a picture lie in memory, and which way is up: camera frames and decoded photographs are read as
/// they are, without a copy that turns or converts them.
public struct PixelLayout: Equatable, Sendable {
    public enum Format: Sendable {
        case gray, rgb, rgba, bgra

        var bytes: Int {
            switch self {
            case .gray: 1
            case .rgb: 3
            case .rgba, .bgra: 4
            }
        }
    }

    /// Of the upright picture.
    public let width: Int, height: Int
    /// From the first byte of the memory to red of the upright picture's top left pixel, and from there to the next
    /// column and row.
    let origin: Int, column: Int, row: Int
    /// From red to green and to blue.
    let green: Int, blue: Int
    /// Bytes of memory that the picture needs.
    let extent: Int

    static let maxSide = 1 << 15

    /// A picture of stored `width` and `height`. Throws `KitError.picture` where the sizes make no sense.
    public init(width: Int, height: Int, bytesPerRow: Int? = nil, format: Format, orientation: Orientation = .up) throws
    {
        let stride = bytesPerRow ?? width.multipliedReportingOverflow(by: format.bytes).partialValue
        guard (1...Self.maxSide).contains(width), (1...Self.maxSide).contains(height),
            (width * format.bytes...1 << 24).contains(stride)
        else { throw KitError.picture("a picture of \(width)x\(height) pixels, \(stride) bytes a row, cannot be read") }
        let (x, y) = (format.bytes, stride)
        let (right, bottom) = (x * (width - 1), y * (height - 1))
        let start: Int
        (start, column, row) =
            switch orientation {
            case .up: (0, x, y)
            case .upMirrored: (right, -x, y)
            case .down: (right + bottom, -x, -y)
            case .downMirrored: (bottom, x, -y)
            case .leftMirrored: (0, y, x)
            case .right: (bottom, -y, x)
            case .rightMirrored: (right + bottom, -y, -x)
            case .left: (right, y, -x)
            }
        self.width = orientation.isTransposed ? height : width
        self.height = orientation.isTransposed ? width : height
        let step: Int
        switch format {
        case .gray: (origin, step) = (start, 0)  // one byte is all three
        case .rgb, .rgba: (origin, step) = (start, 1)
        case .bgra: (origin, step) = (start + 2, -1)
        }
        green = step
        blue = 2 * step
        extent = bottom + right + format.bytes
    }

    /// The middle of the picture; odd remainders are one more at the right and at the bottom.
    func center(_ width: Int, _ height: Int) -> PixelLayout {
        PixelLayout(of: self, width, height, (self.width - width) / 2 * column + (self.height - height) / 2 * row)
    }

    private init(of whole: PixelLayout, _ width: Int, _ height: Int, _ offset: Int) {
        (self.width, self.height, origin) = (width, height, whole.origin + offset)
        (column, row, green, blue, extent) = (whole.column, whole.row, whole.green, whole.blue, whole.extent)
    }
}
