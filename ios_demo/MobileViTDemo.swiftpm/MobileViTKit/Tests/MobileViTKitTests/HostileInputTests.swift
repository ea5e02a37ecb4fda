import XCTest

@testable import MobileViTKit

/// Damaged and hostile files are refused by the documented error, or read as what they now say. Swift traps where
/// arithmetic overflows or an index is out of range: then this whole test process dies.
final class HostileInputTests: XCTestCase {
    private let fragments = [
        "null", "[]", "{}", "-1", "1e999", "-1e999", "9223372036854775807", "9223372036854775808",
        "18446744073709551616", "0.5",
        "\"\"", "true", "[[[[", "\\u0000", "\\ud800", "1e-999", "[1,3,4,6]", "NaN", "\u{FEFF}", "4294967296",
    ]

    private func mutate(_ data: Data, _ random: inout Seeded, within limit: Int) -> Data {
        var bytes = [UInt8](data)
        for _ in 0...Int.random(in: 0..<3, using: &random) {
            let place = Int.random(in: 0..<min(limit, max(1, bytes.count)), using: &random)
            let end = min(bytes.count, place + Int.random(in: 1..<12, using: &random))
            guard place < end else { continue }
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
            case 1: bytes.removeSubrange(place..<end)
            case 2: bytes.insert(contentsOf: bytes[place..<end], at: place)
            case 3: bytes.replaceSubrange(place..<end, with: Array(fragments.randomElement(using: &random)!.utf8))
            default: bytes.removeSubrange(place...)
            }
        }
        return Data(bytes)
    }

    /// Puts a value of JSON in the place of a number or a text, so that the document stays one.
    private func replaceValue(_ text: String, _ random: inout Seeded) -> String {
        let pattern = try! NSRegularExpression(pattern: #"(?<=[:\[,]) *("[^"]*"|[0-9.]+|null|true)"#)
        let matches = pattern.matches(in: text, range: NSRange(text.startIndex..., in: text))
        let chosen = matches.randomElement(using: &random)!
        return (text as NSString).replacingCharacters(in: chosen.range, with: fragments.randomElement(using: &random)!)
    }

    func testMutatedManifestsAreRefusedOrRead() throws {
        var random = Seeded(state: 1), refused = 0
        let whole = Data(manifestText().utf8)
        for round in 0..<4000 {
            let data =
                round % 2 == 0
                ? mutate(whole, &random, within: whole.count) : Data(replaceValue(manifestText(), &random).utf8)
            do {
                let manifest = try Manifest(data: data)
                XCTAssertTrue(isPlainName(manifest.file))
                _ = try Resizer(layout: PixelLayout(width: 7, height: 5, format: .rgb), input: manifest.input)
                _ = InputTensor(manifest.input).count
            } catch {
                refused += 1
                guard error is KitError else { return XCTFail("round \(round): \(error)") }
            }
        }
        XCTAssertGreaterThan(refused, 2000)
    }

    func testMutatedReferenceVectorsAreRefusedOrRead() throws {
        var random = Seeded(state: 2), refused = 0
        let whole = tinyReference(), manifest = try tinyManifest()
        for round in 0..<4000 {
            do {
                let reference = try Reference(
                    data: mutate(whole, &random, within: round % 4 == 0 ? whole.count : whole.count - 252),
                    manifest: manifest)
                let last = reference.cases.count - 1
                XCTAssertEqual(reference.picture(last).pixels.count, 72)
                XCTAssertEqual(reference.answer(last).count, reference.answerCount)
            } catch {
                refused += 1
                guard error is KitError else { return XCTFail("round \(round): \(error)") }
            }
        }
        XCTAssertGreaterThan(refused, 2000)
    }

    func testImpossiblePicturesAreRefused() {
        for (width, height, stride) in [
            (0, 1, 4), (1, 0, 4), (-1, 1, 4), (1, 1, 3), (1, 1, -4), (1, 1, Int.max), (Int.max, 1, 4), (1, Int.max, 4),
            (Int.min, Int.min, Int.min),
        ] {
            assertThrowsKitError(
                try PixelLayout(width: width, height: height, bytesPerRow: stride, format: .bgra), "cannot be read")
        }
        assertThrowsKitError(try PixelLayout(width: Int.max, height: 2, format: .rgb), "cannot be read")
        assertThrowsKitError(try Picture(width: Int.max, height: 2, pixels: [1, 2, 3]), "3 bytes")
        assertThrowsKitError(try Picture(width: -1, height: -1, pixels: [1, 2, 3]), "3 bytes")
    }
}
