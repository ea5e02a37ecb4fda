import XCTest

@testable import MobileViTKit

/// The SDK's own pixels of pictures of odd sizes, turned, gray, in strips: this package makes the same bytes.
final class GoldenPreprocessingTests: XCTestCase {
    private struct Case {
        let name: String
        let orientation: Int
        let resizing: AppInput.Resizing
        let width: Int, height: Int
    }

    private struct Golden {
        let file: Safetensors
        let cases: [Case]

        init() throws {
            let url = repository.appendingPathComponent("tests/golden/preprocessing.safetensors")
            guard let data = try? Data(contentsOf: url) else {
                throw XCTSkip("the golden file is in the SDK's repository, not here")
            }
            file = try Safetensors(data: data, name: url.lastPathComponent)
            cases = try JSONNode(Data(file.metadata["cases"]!.utf8), file: "cases").list().map { node in
                Case(
                    name: try node["name"].text(), orientation: try node["orientation"].integer(),
                    resizing: try .init(node["resizing"]),
                    width: try node["width"].integer(), height: try node["height"].integer()
                )
            }
        }

        /// The case's input, its pixels as stored, and what the SDK makes of them.
        func read(_ each: Case) throws -> (input: AppInput, decoded: Picture, expected: Picture) {
            let shape = file.tensors["\(each.name)/expected"]!.shape
            let input = AppInput(
                name: "image", layout: .nchw, shape: [1, 3, shape[0], shape[1]], resizing: each.resizing)
            let decoded = try Picture(
                width: each.width, height: each.height, pixels: file.bytes("\(each.name)/decoded"))
            return (
                input, decoded,
                try Picture(width: shape[1], height: shape[0], pixels: file.bytes("\(each.name)/expected"))
            )
        }
    }

    func testEveryCaseGivesTheSDKsBytes() throws {
        let golden = try Golden()
        XCTAssertGreaterThan(golden.cases.count, 40)
        for each in golden.cases {
            let (input, decoded, expected) = try golden.read(each)
            let made = try Preprocessor(input).prepare(decoded, orientation: Orientation(exif: each.orientation))
            XCTAssertEqual(made, expected, "\(each.name): worst difference \(worst(made, expected))")
        }
    }

    /// Camera frames are BGRA with padded rows.
    func testFramesOfACameraGiveTheSameBytes() throws {
        let golden = try Golden()
        for each in golden.cases {
            let (input, decoded, expected) = try golden.read(each)
            let stride = 4 * each.width + 28
            var frame = [UInt8](repeating: 77, count: stride * each.height - 28)
            for index in 0..<each.width * each.height {
                let target = index / each.width * stride + index % each.width * 4
                for channel in 0..<3 { frame[target + 2 - channel] = decoded.pixels[3 * index + channel] }
            }
            let layout = try PixelLayout(
                width: each.width, height: each.height, bytesPerRow: stride, format: .bgra,
                orientation: Orientation(exif: each.orientation)
            )
            let preprocessor = Preprocessor(input)
            var made = Picture(width: input.width, height: input.height)
            for _ in 0..<2 { try frame.withUnsafeBytes { try preprocessor.prepare($0, layout, into: &made) } }
            XCTAssertEqual(made, expected, each.name)
            assertThrowsKitError(
                try frame.dropLast().withUnsafeBytes { try preprocessor.prepare($0, layout, into: &made) }, "too few")
        }
    }

    /// What the bar is there for: another filter, or a turn left out, is far from the SDK's pixels.
    func testAnotherFilterOrTurnIsSeen() throws {
        let golden = try Golden()
        var otherFilter = 0, noTurn = 0, turned = 0
        for each in golden.cases {
            let (input, decoded, expected) = try golden.read(each)
            let resizing = input.resizing
            let other = AppInput.Resizing(
                mode: resizing.mode, size: resizing.size, filter: resizing.filter == .bilinear ? .bicubic : .bilinear,
                centerCrop: resizing.centerCrop
            )
            let changed = AppInput(name: input.name, layout: input.layout, shape: input.shape, resizing: other)
            let orientation = Orientation(exif: each.orientation)
            if worst(try Preprocessor(changed).prepare(decoded, orientation: orientation), expected) > 3 {
                otherFilter += 1
            }
            guard orientation != .up else { continue }
            turned += 1
            if worst(try Preprocessor(input).prepare(decoded), expected) > 3 { noTurn += 1 }
        }
        XCTAssertGreaterThan(otherFilter, golden.cases.count / 2)
        XCTAssertGreaterThan(turned, 0)
        XCTAssertEqual(noTurn, turned)
    }

    private func worst(_ a: Picture, _ b: Picture) -> Int {
        zip(a.pixels, b.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 0
    }
}
