/// Photographs and camera frames to a model's input. Keeps the tables of the last layout: frames of a camera share one.
public final class Preprocessor {
    public let input: AppInput
    private var resizer: Resizer?

    public init(_ input: AppInput) { self.input = input }

    /// Resizes and crops `memory` into `picture`; make it once, `Picture(width: input.width, height: input.height)`.
    ///
    /// Throws `KitError.picture` where the memory does not hold a picture of that layout.
    public func prepare(_ memory: UnsafeRawBufferPointer, _ layout: PixelLayout, into picture: inout Picture) throws {
        if resizer?.layout != layout { resizer = try Resizer(layout: layout, input: input) }
        try resizer?.resize(memory, into: &picture)
    }

    /// The same of a picture that was decoded, stored as `orientation` says.
    public func prepare(_ source: Picture, orientation: Orientation = .up) throws -> Picture {
        var result = Picture(width: input.width, height: input.height)
        let layout = try PixelLayout(width: source.width, height: source.height, format: .rgb, orientation: orientation)
        try source.pixels.withUnsafeBytes { try prepare($0, layout, into: &result) }
        return result
    }
}
