import XCTest

@testable import MobileViTKit

/// Writes what the SDK's own tests judge: they name a folder in which `artifact` is an artifact of theirs.
final class SDKExchangeTests: XCTestCase {
    func testAReportForTheSDKIsWritten() async throws {
        guard let place = ProcessInfo.processInfo.environment["MOBILEVIT_EXCHANGE"] else {
            throw XCTSkip("the SDK's tests set MOBILEVIT_EXCHANGE")
        }
        let folder = URL(fileURLWithPath: place)
        let artifact = try ArtifactFolder(url: folder.appendingPathComponent("artifact"))
        try artifact.checkFile()
        let reference = try artifact.reference()
        let exact = reference.cases.indices.map(reference.answer)
        let noisy = exact.map { $0.enumerated().map { $1 * ($0 % 2 == 0 ? 1.01 : 0.99) } }
        let verification = Verification(artifact: artifact, reference: reference, warmUp: 1, samples: 4)
        let passed = try await verification.run(on: ReplayEngine(exact, accelerator: .ane))
        let failed = try await verification.run(on: ReplayEngine(noisy, accelerator: .gpu))
        let broken = try await verification.run(on: ReplayEngine([], accelerator: .cpu))
        XCTAssertEqual(passed.preview?.passed, true)
        XCTAssertEqual(passed.preview?.worst.sqnrDB, 200)
        XCTAssertEqual(failed.preview?.passed, false)
        let report = DeviceReport(
            appVersion: "0.1.0", device: DeviceFacts(model: "iPhone16,1", system: "iOS 18.1", processor: nil),
            artifact: artifact, reference: reference, runs: [passed.run, failed.run, broken.run]
        )
        try report.data().write(to: folder.appendingPathComponent("swift.device-report.json"))
        try Data("\(failed.preview!.worst.sqnrDB)".utf8).write(to: folder.appendingPathComponent("worst.txt"))
    }
}
