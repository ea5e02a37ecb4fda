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
        let context = try Self.draw(stored)
        guard let memory = context.data else { throw KitError.picture("This photograph has no pixels.") }
        self.image = image
        layout = try PixelLayout(
            width: stored.width, height: stored.height, bytesPerRow: context.bytesPerRow, format: .rgba,
            orientation: MobileViTKit.Orientation(image.imageOrientation)
        )
        pixels = Array(UnsafeRawBufferPointer(start: memory, count: stored.height * context.bytesPerRow))
    }

    /// What is transparent is laid over white. The numbers of an RGB image are taken as they are, whatever its color profile,
    /// as the SDK does; grey and CMYK images, and those of more than 8 bits that need it, are converted to sRGB.
    private static func draw(_ image: CGImage) throws -> CGContext {
        let own = image.colorSpace.flatMap { $0.model == .rgb ? $0 : nil }
        let spaces = [own, CGColorSpace(name: CGColorSpace.sRGB)].compactMap { $0 }
        let contexts = spaces.lazy.compactMap {
            CGContext(
                data: nil, width: image.width, height: image.height, bitsPerComponent: 8, bytesPerRow: 0, space: $0,
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
            )
        }
        guard let context = contexts.first else {
            throw KitError.picture("A photograph of \(image.width)x\(image.height) pixels cannot be drawn.")
        }
        let all = CGRect(x: 0, y: 0, width: image.width, height: image.height)
        context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
        context.fill(all)
        context.draw(image, in: all)
        return context
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
