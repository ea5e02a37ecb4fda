/// Fills a model's input from a picture of its size: nothing but layout and range, since mean and std are in the graph.
public struct InputTensor: Sendable {
    public let layout: AppInput.Layout
    public let width: Int, height: Int
    /// What each of the 256 bytes becomes.
    private let table: [Float]

    public init(_ input: AppInput) {
        layout = input.layout
        (width, height) = (input.width, input.height)
        let (low, high) = (input.range[0], input.range[1])
        table = (0..<256).map { Float(low + (high - low) * Double($0) / 255) }
    }

    /// Floats of one image.
    public var count: Int { 3 * width * height }

    /// Writes NCHW or NHWC floats. Throws `KitError.picture` where a size differs.
    public func fill(_ floats: UnsafeMutableBufferPointer<Float>, from picture: Picture) throws {
        try check(picture)
        guard floats.count == count else {
            throw KitError.picture("an input of \(floats.count) floats, expected \(count)")
        }
        let plane = width * height
        picture.pixels.withUnsafeBufferPointer { pixels in
            table.withUnsafeBufferPointer { table in
                if layout == .nhwc {
                    for index in 0..<count { floats[index] = table[Int(pixels[index])] }
                } else {
                    for pixel in 0..<plane {
                        for channel in 0..<3 {
                            floats[channel * plane + pixel] = table[Int(pixels[3 * pixel + channel])]
                        }
                    }
                }
            }
        }
    }

    /// Writes a BGRA picture, as a `CVPixelBuffer` holds it. Throws `KitError.picture` where a size differs.
    public func fill(bgra memory: UnsafeMutableRawBufferPointer, bytesPerRow: Int, from picture: Picture) throws {
        try check(picture)
        guard bytesPerRow >= 4 * width,
            memory.count / height >= bytesPerRow || memory.count >= bytesPerRow * (height - 1) + 4 * width
        else { throw KitError.picture("a pixel buffer of \(memory.count) bytes is too small for \(width)x\(height)") }
        picture.pixels.withUnsafeBufferPointer { pixels in
            for y in 0..<height {
                for x in 0..<width {
                    let source = 3 * (y * width + x), target = y * bytesPerRow + 4 * x
                    memory[target] = pixels[source + 2]
                    memory[target + 1] = pixels[source + 1]
                    memory[target + 2] = pixels[source]
                    memory[target + 3] = 255
                }
            }
        }
    }

    private func check(_ picture: Picture) throws {
        guard (picture.width, picture.height) == (width, height) else {
            throw KitError.picture("a picture of \(picture.width)x\(picture.height) for an input of \(width)x\(height)")
        }
    }
}
