import XCTest

@testable import MobileViTKit

final class VisionRegionTests: XCTestCase {
    private func input(_ resizing: String) throws -> AppInput {
        try tinyManifest([
            #""mode": "shorter side", "size": [5],"#: resizing, "[1, 3, 4, 6]": "[1, 3, 256, 256]",
            "[4, 6]": "[256, 256]",
        ]).input
    }

    func testTheRegionIsTheManifestsCropWithTheOriginBelow() throws {
        let input = try input(#""mode": "shorter side", "size": [288],"#)
        XCTAssertEqual(
            input.visionRegion(width: 576, height: 288),
            CGRect(x: 160.0 / 576, y: 16.0 / 288, width: 256.0 / 576, height: 256.0 / 288)
        )
        // 288x433: 177 rows are cropped, one more of them below than above.
        let tall = input.visionRegion(width: 288, height: 433)
        XCTAssertEqual(tall, CGRect(x: 16.0 / 288, y: 89.0 / 433, width: 256.0 / 288, height: 256.0 / 433))
        XCTAssertEqual(1 - tall.maxY, 88.0 / 433, accuracy: 1e-12)
    }

    func testWhereNothingIsCroppedTheRegionIsTheWholeShorterSide() throws {
        let input = try input(#""mode": "shorter side", "size": [256],"#)
        XCTAssertEqual(input.visionRegion(width: 1000, height: 1000), CGRect(x: 0, y: 0, width: 1, height: 1))
        let wide = input.visionRegion(width: 1024, height: 512)
        XCTAssertEqual(wide, CGRect(x: 0.25, y: 0, width: 0.5, height: 1))
    }
}
