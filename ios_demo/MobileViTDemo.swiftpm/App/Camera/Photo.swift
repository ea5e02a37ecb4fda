import MobileViTKit
import PhotosUI
import SwiftUI
import UIKit

/// A chosen photograph: to show, and its stored pixels with the turn that makes them upright.
struct Photo {
    let image: UIImage
    /// Where each pixel of the upright photograph lies in `pixels`.
    let layout: PixelLayout
    let pixels: [UInt8]

    /// Throws `KitError.picture` where it cannot be read.
    init(_ item: PhotosPickerItem) async throws {
        guard let data = try await item.loadTransferable(type: Data.self), let image = UIImage(data: data),
            let stored = image.cgImage
        else { throw KitError.picture("This photograph cannot be read.") }
        let (pixels, bytesPerRow) = try Self.pixels(of: stored)
        self.image = image
        self.pixels = pixels
        layout = try PixelLayout(
            width: stored.width, height: stored.height, bytesPerRow: bytesPerRow, format: .rgba,
            orientation: MobileViTKit.Orientation(image.imageOrientation)
        )
    }

    /// RGBA. Numbers of RGB and grey images are taken as they are, whatever the color profile, as the SDK does; images of
    /// other colors, and those whose own colors cannot be drawn with 8 bits, are converted to sRGB.
    private static func pixels(of image: CGImage) throws -> (bytes: [UInt8], bytesPerRow: Int) {
        if let own = image.colorSpace {
            if own.model == .rgb, let drawn = draw(image, own, .noneSkipLast) { return drawn }
            if own.model == .monochrome, let (grey, bytesPerRow) = draw(image, own, .none) {
                return (grey.flatMap { [$0, $0, $0, 255] }, 4 * bytesPerRow)
            }
        }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB), let drawn = draw(image, space, .noneSkipLast) else {
            throw KitError.picture("A photograph of \(image.width)x\(image.height) pixels cannot be drawn.")
        }
        return drawn
    }

    /// What is transparent is laid over white. nil where the system does not draw into such colors.
    private static func draw(
        _ image: CGImage, _ space: CGColorSpace, _ alpha: CGImageAlphaInfo
    ) -> (bytes: [UInt8], bytesPerRow: Int)? {
        guard
            let context = CGContext(
                data: nil, width: image.width, height: image.height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                bitmapInfo: alpha.rawValue),
            let memory = context.data
        else { return nil }
        let all = CGRect(x: 0, y: 0, width: image.width, height: image.height)
        context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
        context.fill(all)
        context.draw(image, in: all)
        let bytes = [UInt8](UnsafeRawBufferPointer(start: memory, count: image.height * context.bytesPerRow))
        return (bytes, context.bytesPerRow)
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
