import XCTest

@testable import MobileViTKit

/// The SDK's gate found these numbers: this package finds the same.
final class AgreementTests: XCTestCase {
    func testTheSDKsNumbersAreFound() throws {
        let url = repository.appendingPathComponent("tests/golden/metrics.json")
        guard let data = try? Data(contentsOf: url) else {
            throw XCTSkip("the golden file is in the SDK's repository, not here")
        }
        let cases = try JSONNode(data, file: "metrics.json").list()
        XCTAssertGreaterThan(cases.count, 10)
        for each in cases {
            let name = try each["name"].text(), shape = try each["shape"].list().map { try $0.integer() }
            let counted = try each["counted"].list().map { try $0.bool() }
            let agreement = Agreement(
                expected: try rows(each["reference"], shape), actual: try rows(each["outputs"], shape),
                kind: try each["kind"].choice(Head.Kind.self), counted: counted,
                columns: try each.optional("classes")?.integer() ?? 1
            )
            let expected = try each["cases"].list().map { try $0.number() }
            for (found, wanted) in zip(agreement.sqnrDB, expected) {
                XCTAssertEqual(found, wanted, accuracy: 1e-6, name)
            }
            let worst = zip(agreement.sqnrDB, counted).filter(\.1).map(\.0).min()!
            XCTAssertEqual(worst, try each["worst"].number(), accuracy: 1e-6, name)
            let same = agreement.sameBest.compactMap { $0 } + agreement.sameObjects
            let share = same.isEmpty ? nil : Double(same.filter { $0 }.count) / Double(same.count)
            XCTAssertEqual(share, try each.optional("top1")?.number(), name)
        }
    }

    private func rows(_ node: JSONNode, _ shape: [Int]) throws -> [[Float]] {
        let bytes = [UInt8](Data(base64Encoded: try node.text())!)
        let floats = stride(from: 0, to: bytes.count, by: 4).map { at in
            Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) })
        }
        let width = shape.dropFirst().reduce(1, *)
        return (0..<shape[0]).map { Array(floats[$0 * width..<($0 + 1) * width]) }
    }
}
