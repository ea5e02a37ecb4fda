import XCTest

@testable import MobileViTKit

final class PictureTests: XCTestCase {
    private func input(_ layout: AppInput.Layout, _ shape: [Int]) -> AppInput {
        AppInput(
            name: "image", layout: layout, shape: shape,
            resizing: .init(mode: .squash, size: [2, 3], filter: .bilinear, centerCrop: nil))
    }

    private func sample() throws -> Picture {
        try Picture(width: 3, height: 2, pixels: (0..<18).map { UInt8($0 * 15) })
    }

    func testPlanesAreFilledInTheOrderOfNCHW() throws {
        let tensor = InputTensor(input(.nchw, [1, 3, 2, 3]))
        var floats = [Float](repeating: -1, count: 18)
        try floats.withUnsafeMutableBufferPointer { try tensor.fill($0, from: sample()) }
        let red: [Float] = [0, 45, 90, 135, 180, 225].map { $0 / 255 }
        XCTAssertEqual(Array(floats[0..<6]), red)
        XCTAssertEqual(floats[6], 15 / 255)
        XCTAssertEqual(floats[17], 1)
    }

    func testPixelsAreFilledInTheOrderOfNHWC() throws {
        let tensor = InputTensor(input(.nhwc, [1, 2, 3, 3]))
        var floats = [Float](repeating: -1, count: 18)
        try floats.withUnsafeMutableBufferPointer { try tensor.fill($0, from: sample()) }
        XCTAssertEqual(floats, (0..<18).map { Float($0 * 15) / 255 })
    }

    func testAPixelBufferIsFilledWithBGRAAndPaddedRows() throws {
        let tensor = InputTensor(input(.picture, [1, 3, 2, 3]))
        var memory = [UInt8](repeating: 7, count: 32)
        try memory.withUnsafeMutableBytes { try tensor.fill(bgra: $0, bytesPerRow: 16, from: sample()) }
        XCTAssertEqual(Array(memory[0..<16]), [30, 15, 0, 255, 75, 60, 45, 255, 120, 105, 90, 255, 7, 7, 7, 7])
        XCTAssertEqual(memory[16...18], [165, 150, 135])
    }

    func testOtherSizesAreRefused() throws {
        let tensor = InputTensor(input(.picture, [1, 3, 2, 3]))
        var memory = [UInt8](repeating: 0, count: 32)
        assertThrowsKitError(
            try memory.withUnsafeMutableBytes {
                try tensor.fill(bgra: $0, bytesPerRow: 16, from: Picture(width: 2, height: 3))
            }, "2x3")
        assertThrowsKitError(
            try memory.withUnsafeMutableBytes { try tensor.fill(bgra: $0, bytesPerRow: 8, from: sample()) }, "too small"
        )
        assertThrowsKitError(
            try memory.withUnsafeMutableBytes { try tensor.fill(bgra: $0, bytesPerRow: 24, from: sample()) },
            "too small")
        var floats = [Float](repeating: 0, count: 17)
        assertThrowsKitError(
            try floats.withUnsafeMutableBufferPointer { try tensor.fill($0, from: sample()) }, "17 floats")
        var wrong = Picture(width: 2, height: 3)
        let layout = try PixelLayout(width: 3, height: 2, format: .rgb)
        assertThrowsKitError(
            try sample().pixels.withUnsafeBytes {
                try Resizer(layout: layout, input: tensor.asInput).resize($0, into: &wrong)
            }, "2x3")
    }

    func testAGrayPhotographIsThatOfThreeEqualChannels() throws {
        let gray = (0..<96).map { UInt8($0 * 2) }
        let preprocessor = Preprocessor(input(.picture, [1, 3, 2, 3]))
        for orientation in Orientation.allCases {
            var found = Picture(width: 3, height: 2), expected = Picture(width: 3, height: 2)
            let layout = try PixelLayout(width: 10, height: 8, bytesPerRow: 12, format: .gray, orientation: orientation)
            try gray.withUnsafeBytes { try preprocessor.prepare($0, layout, into: &found) }
            let rgb = try PixelLayout(width: 10, height: 8, bytesPerRow: 36, format: .rgb, orientation: orientation)
            try gray.flatMap { [$0, $0, $0] }.withUnsafeBytes { try preprocessor.prepare($0, rgb, into: &expected) }
            XCTAssertEqual(found, expected, "\(orientation)")
        }
    }

    func testFramesOfACameraAreWrittenInPlace() throws {
        let input = AppInput(
            name: "x", layout: .picture, shape: [1, 3, 20, 20],
            resizing: .init(mode: .shorterSide, size: [24], filter: .bicubic, centerCrop: [20, 20]))
        let layout = try PixelLayout(width: 64, height: 48, format: .bgra, orientation: .right)
        let frame = [UInt8](repeating: 9, count: 64 * 48 * 4)
        let preprocessor = Preprocessor(input)
        var picture = Picture(width: 20, height: 20)
        var places: Set<UnsafePointer<UInt8>?> = []
        for _ in 0..<3 {
            try frame.withUnsafeBytes { try preprocessor.prepare($0, layout, into: &picture) }
            places.insert(picture.pixels.withUnsafeBufferPointer(\.baseAddress))
        }
        XCTAssertEqual(places.count, 1)
        XCTAssertEqual(Set(picture.pixels), [9])
    }

    /// The eight turns of EXIF on a picture of 2x3, whose pixels are named a to f.
    func testTheEightTurnsOfEXIF() throws {
        let upright: [(Int, String)] = [
            (1, "ab cd ef"), (2, "ba dc fe"), (3, "fe dc ba"), (4, "ef cd ab"), (5, "ace bdf"), (6, "eca fdb"),
            (7, "fdb eca"), (8, "bdf ace"),
        ]
        let stored = try Picture(width: 2, height: 3, pixels: "abcdef".utf8.flatMap { [$0, $0, $0] })
        for (exif, expected) in upright {
            let rows = expected.split(separator: " ")
            let size = [rows.count, rows[0].count]
            let input = AppInput(
                name: "x", layout: .nchw, shape: [1, 3] + size,
                resizing: .init(mode: .squash, size: size, filter: .bicubic, centerCrop: nil))
            let turned = try Preprocessor(input).prepare(stored, orientation: Orientation(exif: exif))
            XCTAssertEqual(turned.pixels, rows.joined().utf8.flatMap { [$0, $0, $0] }, "\(exif)")
        }
        XCTAssertEqual(Orientation(exif: 0), .up)
        XCTAssertEqual(Orientation(exif: 9), .up)
    }
}

extension InputTensor {
    fileprivate var asInput: AppInput {
        AppInput(
            name: "x", layout: .picture, shape: [1, 3, height, width],
            resizing: .init(mode: .squash, size: [height, width], filter: .bilinear, centerCrop: nil))
    }
}
