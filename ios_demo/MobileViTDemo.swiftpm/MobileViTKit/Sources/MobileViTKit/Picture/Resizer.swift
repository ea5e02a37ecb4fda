/// Brings pictures of one layout to the size of a model's input, as the manifest says and Pillow does it: tables and
/// buffers are made once, so that a frame allocates nothing.
public final class Resizer {
    public let layout: PixelLayout
    private let horizontal: ResamplingPass, vertical: ResamplingPass
    /// Rows of the input that are resized; pixels between the passes, [rows.count, width of the output, 3].
    private let rows: Range<Int>
    private var middle: [UInt8]
    private let outWidth: Int, outHeight: Int
    /// Of a strip, the middle part, cut out first.
    private let strip: Strip?

    /// Throws `KitError.picture` where a picture of this shape cannot be resized.
    public init(layout: PixelLayout, input: AppInput) throws {
        self.layout = layout
        (outWidth, outHeight) = (input.width, input.height)
        let resizing = input.resizing
        var (width, height) = (layout.width, layout.height)
        let longest = 16 * min(width, height)
        strip = resizing.mode == .shorterSide && max(width, height) > longest ? Strip(layout, longest) : nil
        (width, height) = (min(width, longest), min(height, longest))
        if resizing.mode == .squash { (width, height) = (layout.width, layout.height) }
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
        horizontal = ResamplingPass(inSize: width, outSize: resizedWidth, kept: left..<left + outWidth, filter: resizing.filter)
        vertical = ResamplingPass(inSize: height, outSize: resizedHeight, kept: top..<top + outHeight, filter: resizing.filter)
        rows = vertical.reads
        middle = [UInt8](repeating: 0, count: rows.count * outWidth * 3)
    }

    /// Resizes and crops `memory` into `picture`, which has the size of the model's input.
    ///
    /// Throws `KitError.picture` where the memory is too short for the layout, or the picture has another size.
    public func resize(_ memory: UnsafeRawBufferPointer, into picture: inout Picture) throws {
        guard memory.count >= layout.extent else {
            throw KitError.picture("\(memory.count) bytes are too few for a picture of \(layout.width)x\(layout.height)")
        }
        guard (picture.width, picture.height) == (outWidth, outHeight) else {
            throw KitError.picture("a picture of \(picture.width)x\(picture.height) for an input of \(outWidth)x\(outHeight)")
        }
        let bytes = memory.bindMemory(to: UInt8.self).baseAddress!
        if let strip {
            strip.cut(bytes).withUnsafeBufferPointer { resizeRows($0.baseAddress!, strip.cutLayout) }
        } else {
            resizeRows(bytes, layout)
        }
        picture.pixels.withUnsafeMutableBufferPointer { resizeColumns($0.baseAddress!) }
    }

    /// The same of a picture in memory.
    public func resize(_ source: Picture) throws -> Picture {
        var result = Picture(width: outWidth, height: outHeight)
        try source.pixels.withUnsafeBytes { try resize($0, into: &result) }
        return result
    }

    private func resizeRows(_ bytes: UnsafePointer<UInt8>, _ layout: PixelLayout) {
        let (rows, width, stride) = (rows, outWidth, horizontal.stride)
        let (column, green, blue) = (layout.column, layout.green, layout.blue)
        middle.withUnsafeMutableBufferPointer { middle in
            var out = middle.baseAddress!
            horizontal.withTables { starts, counts, weights in
                for y in rows {
                    let row = bytes + layout.origin + y * layout.row
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

/// Of a picture that is more than 16 times as long as wide, the middle part: the rest would take gigabytes and be cropped
/// away. Where the middle lies between two pixels, the SDK interpolates, bicubic, and so does this.
private struct Strip {
    private let layout: PixelLayout
    private let pass: ResamplingPass
    private let lies: Bool // along the rows
    let cutLayout: PixelLayout

    init(_ layout: PixelLayout, _ longest: Int) {
        self.layout = layout
        lies = layout.width > layout.height
        let length = max(layout.width, layout.height)
        let start = Double(length - longest) * 0.5
        pass = ResamplingPass(
            inSize: length, from: start, to: start + Double(longest), outSize: longest, kept: 0..<longest, filter: .bicubic
        )
        cutLayout = PixelLayout(packedWidth: min(layout.width, longest), height: min(layout.height, longest))
    }

    func cut(_ bytes: UnsafePointer<UInt8>) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: cutLayout.extent)
        let step = lies ? layout.column : layout.row
        for y in 0..<cutLayout.height {
            for x in 0..<cutLayout.width {
                let along = lies ? x : y
                let line = bytes + layout.origin + (lies ? y * layout.row : x * layout.column)
                for (channel, offset) in [0, layout.green, layout.blue].enumerated() {
                    var sum = ResamplingPass.half
                    for tap in 0..<pass.counts[along] {
                        let weight = pass.weights[along * pass.stride + tap]
                        sum = sum &+ weight &* Int32(line[(pass.starts[along] + tap) * step + offset])
                    }
                    result[y * cutLayout.row + 3 * x + channel] = ResamplingPass.toByte(sum)
                }
            }
        }
        return result
    }
}
