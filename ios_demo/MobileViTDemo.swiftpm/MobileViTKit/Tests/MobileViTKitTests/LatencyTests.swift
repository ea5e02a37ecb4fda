import XCTest

@testable import MobileViTKit

final class LatencyTests: XCTestCase {
    func testPercentilesAreOfTheNearestRank() throws {
        let timings = try Timings([5, 1, 4, 2, 3, 10, 6, 7, 9, 8])
        XCTAssertEqual(timings.p50, 5)
        XCTAssertEqual(timings.p90, 9)
        XCTAssertEqual(timings.percentile(100), 10)
        XCTAssertEqual(try Timings([7]).p90, 7)
        XCTAssertEqual(try Timings([1, 2, 3]).p50, 2)
    }

    func testNoSampleTooManyAndImpossibleOnesAreRefused() {
        for samples in [[], [.nan], [.infinity], [-1], [Double](repeating: 1, count: 10_001)] {
            XCTAssertThrowsError(try Timings(samples)) { XCTAssertTrue($0 is KitError) }
        }
    }
}
