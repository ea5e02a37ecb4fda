import MobileViTKit
import PhotosUI
import SwiftUI
import UIKit

/// A chosen photograph: to show, and its stored pixels with the turn that makes them upright.
struct Photo {
    /// Upright, and not larger than a screen: all pixels of a photograph, once more, would take hundreds of megabytes.
    let image: UIImage
    /// Where each pixel of the upright photograph lies in `pixels`.
    let layout: PixelLayout
    let pixels: [UInt8]

    private static let longestShown = 2048.0

    /// Throws `KitError.picture` where it cannot be read.
    init(_ item: PhotosPickerItem) async throws {
        guard let data = try await item.loadTransferable(type: Data.self), let whole = UIImage(data: data),
            let stored = whole.cgImage
        else { throw KitError.picture("This photograph cannot be read.") }
        let scale = min(1, Self.longestShown / max(whole.size.width, whole.size.height))
        let shown = CGSize(width: whole.size.width * scale, height: whole.size.height * scale)
        image = await whole.byPreparingThumbnail(ofSize: shown) ?? whole
        let format: PixelLayout.Format
        (pixels, format) = try Self.pixels(of: stored)
        layout = try PixelLayout(
            width: stored.width, height: stored.height, format: format,
            orientation: MobileViTKit.Orientation(whole.imageOrientation)
        )
    }

    /// Numbers of RGB and gray images are taken as they are, whatever the color profile, as the SDK does; images of other
    /// colors, and those whose own colors cannot be drawn with 8 bits, are converted to sRGB.
    private static func pixels(of image: CGImage) throws -> ([UInt8], PixelLayout.Format) {
        let own = image.colorSpace
        if let own, own.model == .rgb, let drawn = draw(image, own, .rgba) { return (drawn, .rgba) }
        if let own, own.model == .monochrome, let drawn = draw(image, own, .gray) { return (drawn, .gray) }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB), let drawn = draw(image, space, .rgba) else {
            throw KitError.picture("A photograph of \(image.width)x\(image.height) pixels cannot be drawn.")
        }
        return (drawn, .rgba)
    }

    /// What is transparent is laid over white. nil where the system does not draw into such colors.
    private static func draw(_ image: CGImage, _ space: CGColorSpace, _ format: PixelLayout.Format) -> [UInt8]? {
        let bytesPerRow = image.width * (format == .gray ? 1 : 4)
        let alpha: CGImageAlphaInfo = format == .gray ? .none : .noneSkipLast
        var bytes = [UInt8](repeating: 255, count: bytesPerRow * image.height)
        let isDrawn = bytes.withUnsafeMutableBytes { memory in
            guard
                let context = CGContext(
                    data: memory.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                    bytesPerRow: bytesPerRow, space: space, bitmapInfo: alpha.rawValue)
            else { return false }
            context.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
            return true
        }
        return isDrawn ? bytes : nil
    }
}

extension MobileViTKit.Orientation {
    init(_ orientation: UIImage.Orientation) {
        self =
            switch orientation {
            case .up: .up
            case .upMirrored: .upMirrored
            case .down: .down
            case .downMirrored: .downMirrored
            case .left: .left
            case .leftMirrored: .leftMirrored
            case .right: .right
            case .rightMirrored: .rightMirrored
            @unknown default: .up
            }
    }
}
