/// Brings pictures of one layout to the size of a model's input, as the manifest says and Pillow does it: tables and
/// buffers are made once, so that a frame allocates nothing.
public final class Resizer {
    public let layout: PixelLayout
    private let horizontal: ResamplingPass, vertical: ResamplingPass
    /// Rows of the input that are resized; pixels between the passes, [rows.count, width of the output, 3].
    private let rows: Range<Int>
    private var middle: [UInt8]
    private let outWidth: Int, outHeight: Int
    /// What is resized: the layout, or of a strip the middle part.
    private let source: PixelLayout

    /// Throws `KitError.picture` where a picture of this shape cannot be resized.
    public init(layout: PixelLayout, input: AppInput) throws {
        self.layout = layout
        (outWidth, outHeight) = (input.width, input.height)
        let resizing = input.resizing
        // Of a longer strip, the rest would take gigabytes and be cropped away.
        let longest = resizing.mode == .squash ? Int.max : 16 * min(layout.width, layout.height)
        source = layout.center(min(layout.width, longest), min(layout.height, longest))
        let (width, height) = (source.width, source.height)
        var (resizedWidth, resizedHeight) = (outWidth, outHeight)
        if resizing.mode == .shorterSide {
            let scale = max(
                Double(resizing.size[0]) / Double(min(width, height)),
                Double(outWidth) / Double(width), Double(outHeight) / Double(height)
            )
            resizedWidth = max(outWidth, Int((Double(width) * scale).rounded(.toNearestOrEven)))
            resizedHeight = max(outHeight, Int((Double(height) * scale).rounded(.toNearestOrEven)))
        }
        let (left, top) = ((resizedWidth - outWidth) / 2, (resizedHeight - outHeight) / 2)
        horizontal = ResamplingPass(
            inSize: width, outSize: resizedWidth, kept: left..<left + outWidth, filter: resizing.filter)
        vertical = ResamplingPass(
            inSize: height, outSize: resizedHeight, kept: top..<top + outHeight, filter: resizing.filter)
        rows = vertical.reads
        middle = [UInt8](repeating: 0, count: rows.count * outWidth * 3)
    }

    /// Resizes and crops `memory` into `picture`, which has the size of the model's input.
    ///
    /// Throws `KitError.picture` where the memory is too short for the layout, or the picture has another size.
    public func resize(_ memory: UnsafeRawBufferPointer, into picture: inout Picture) throws {
        guard memory.count >= layout.extent else {
            throw KitError.picture(
                "\(memory.count) bytes are too few for a picture of \(layout.width)x\(layout.height)")
        }
        guard (picture.width, picture.height) == (outWidth, outHeight) else {
            throw KitError.picture(
                "a picture of \(picture.width)x\(picture.height) for an input of \(outWidth)x\(outHeight)")
        }
        let bytes = memory.bindMemory(to: UInt8.self).baseAddress!
        resizeRows(bytes + source.origin)
        picture.pixels.withUnsafeMutableBufferPointer { resizeColumns($0.baseAddress!) }
    }

    /// The same of a picture in memory.
    public func resize(_ source: Picture) throws -> Picture {
        var result = Picture(width: outWidth, height: outHeight)
        try source.pixels.withUnsafeBytes { try resize($0, into: &result) }
        return result
    }

    private func resizeRows(_ bytes: UnsafePointer<UInt8>) {
        let (rows, width, stride) = (rows, outWidth, horizontal.stride)
        let (column, green, blue) = (source.column, source.green, source.blue)
        middle.withUnsafeMutableBufferPointer { middle in
            var out = middle.baseAddress!
            horizontal.withTables { starts, counts, weights in
                for y in rows {
                    let row = bytes + y * source.row
                    for x in 0..<width {
                        var (r, g, b) = (ResamplingPass.half, ResamplingPass.half, ResamplingPass.half)
                        var pixel = row + starts[x] * column
                        let own = weights + x * stride
                        for tap in 0..<counts[x] {
                            let weight = own[tap]
                            r = r &+ weight &* Int32(pixel[0])
                            g = g &+ weight &* Int32(pixel[green])
                            b = b &+ weight &* Int32(pixel[blue])
                            pixel += column
                        }
                        out[0] = ResamplingPass.toByte(r)
                        out[1] = ResamplingPass.toByte(g)
                        out[2] = ResamplingPass.toByte(b)
                        out += 3
                    }
                }
            }
        }
    }

    private func resizeColumns(_ out: UnsafeMutablePointer<UInt8>) {
        let (width, first, stride) = (3 * outWidth, rows.lowerBound, vertical.stride)
        middle.withUnsafeBufferPointer { middle in
            vertical.withTables { starts, counts, weights in
                for y in 0..<outHeight {
                    let own = weights + y * stride, count = counts[y]
                    let top = middle.baseAddress! + (starts[y] - first) * width
                    let target = out + y * width
                    for x in 0..<width {
                        var sum = ResamplingPass.half
                        var value = top + x
                        for tap in 0..<count {
                            sum = sum &+ own[tap] &* Int32(value.pointee)
                            value += width
                        }
                        target[x] = ResamplingPass.toByte(sum)
                    }
                }
            }
        }
    }
}
