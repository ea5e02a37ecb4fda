import XCTest

@testable import MobileViTKit

final class SHA256Tests: XCTestCase {
    private func portable(_ pieces: [Data]) -> String {
        var hash = PortableSHA256()
        for piece in pieces { hash.update(data: piece) }
        return hash.finalize().map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
    }

    /// The examples of FIPS 180-4, and a million times "a".
    func testPublishedDigests() {
        let published: [(String, String)] = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
            (
                String(repeating: "a", count: 1_000_000),
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
            ),
        ]
        for (text, digest) in published {
            XCTAssertEqual(portable([Data(text.utf8)]), digest)
            XCTAssertEqual(SHA256Digest.hex(of: Data(text.utf8)), digest)
        }
    }

    func testPiecesOfAnySizeGiveTheSameDigest() {
        let data = Data((0..<300).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        let whole = portable([data])
        for size in [1, 3, 55, 56, 63, 64, 65, 128] {
            let pieces = stride(from: 0, to: data.count, by: size).map { data[$0..<min(data.count, $0 + size)] }
            XCTAssertEqual(portable(pieces), whole, "\(size)")
        }
        for length in 50..<130 {  // every way that padding can fall
            XCTAssertEqual(portable([data.prefix(length)]), portable([data.prefix(50), data[50..<length]]))
        }
    }

    /// `printf 'a\0Ab/c\0Bb.x\0C' | sha256sum`: a folder's files sorted component by component.
    func testAPackageFolderIsHashedByNamesAndContents() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(
            at: folder.appendingPathComponent("b"), withIntermediateDirectories: true)
        for (name, text) in [("b.x", "C"), ("b/c", "B"), ("a", "A")] {
            try Data(text.utf8).write(to: folder.appendingPathComponent(name))
        }
        let (sha256, bytes) = try SHA256Digest.hashAndSize(of: folder)
        XCTAssertEqual(bytes, 3)
        XCTAssertEqual(sha256, portable([Data("a\0Ab/c\0Bb.x\0C".utf8)]))
        assertThrowsKitError(try SHA256Digest.hashAndSize(of: folder.appendingPathComponent("none")), "cannot be read")
    }
}
