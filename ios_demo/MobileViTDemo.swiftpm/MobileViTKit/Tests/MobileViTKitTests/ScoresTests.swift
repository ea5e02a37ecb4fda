import XCTest

@testable import MobileViTKit

final class ScoresTests: XCTestCase {
    func testProbabilitiesSumToOneWithoutOverflow() {
        let probabilities = softmax([1000, 999, -1000])
        XCTAssertEqual(probabilities[0], 0.7310586, accuracy: 1e-6)
        XCTAssertEqual(probabilities[1], 0.2689414, accuracy: 1e-6)
        XCTAssertEqual(probabilities.reduce(0, +), 1, accuracy: 1e-6)
        XCTAssertTrue(softmax([.nan, 1]).allSatisfy(\.isNaN))
        XCTAssertTrue(softmax([.infinity, 1]).allSatisfy(\.isNaN))
        XCTAssertEqual(softmax([]), [])
    }

    func testTheBestClassesComeFirstAndOfEqualOnesTheEarlier() {
        XCTAssertEqual(topClasses([1, 3, 3, 2], count: 3).map(\.index), [1, 2, 3])
        XCTAssertEqual(topClasses([1, 2], count: 5).map(\.index), [1, 0])
        XCTAssertEqual(topClasses([1, 2], count: -1), [])
        XCTAssertEqual(topClasses([.nan, 1, 2]), [])
        XCTAssertEqual(topClasses([7])[0].probability, 1)
    }
}
