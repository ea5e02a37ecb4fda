import XCTest

@testable import MobileViTKit

final class DeviceReportTests: XCTestCase {
    private func report(_ runs: [DeviceReport.Run]) throws -> DeviceReport {
        let artifact = try tinyArtifact(self)
        let device = DeviceFacts(model: "iPhone16,1", system: "iOS 18.1", processor: nil)
        return DeviceReport(
            appVersion: "0.1.0", device: device, artifact: artifact, reference: try artifact.reference(),
            created: Date(timeIntervalSince1970: 1_795_953_600), runs: runs
        )
    }

    private let facts = EngineFacts(runtime: "coreml", accelerator: .ane)
    private let outputs: [[Float]] = [[4, 1, -2], [0, 3, 1], [-1, 0, 5]]

    func testTheDigestIsThatOfAllBytesBeforeIt() throws {
        let data = try report([.init(engine: facts, outputs: outputs)]).data()
        let text = String(decoding: data, as: UTF8.self)
        XCTAssertTrue(text.hasSuffix("\"}"))
        let body = data.dropLast(66)
        XCTAssertTrue(String(decoding: body, as: UTF8.self).hasSuffix(#","digest":""#))
        XCTAssertEqual(String(text.suffix(66).dropLast(2)), SHA256Digest.hex(of: Data(body)))
    }

    func testTheFileNameOfALongNameIsOneThatFileSystemsTake() throws {
        let short = try tinyArtifact(self).url
        let long = short.deletingLastPathComponent().appendingPathComponent(String(repeating: "ü", count: 120))
        try FileManager.default.moveItem(at: short, to: long)
        let artifact = try ArtifactFolder(url: long)
        let report = DeviceReport(appVersion: "1", artifact: artifact, reference: try artifact.reference(), runs: [])
        XCTAssertLessThanOrEqual(report.fileName.utf8.count, 255)
        XCTAssertTrue(report.fileName.hasSuffix(".device-report.json"))
    }

    func testAllMembersAreThereAndNullWhereUnknown() throws {
        let latency = Latency(warmUp: 5, inference: try Timings([4.1, 4.25, 4.0]), withPreprocessing: nil)
        let data = try report([
            .init(engine: facts, outputs: outputs, latency: latency, peakMemoryBytes: 123, thermalState: "nominal"),
            .init(
                engine: EngineFacts(runtime: "coreml", version: "7", accelerator: .gpu, fullyAccelerated: false),
                outputs: outputs, error: "no\nGPU"),
        ]).data()
        let rows = zip(["one", "two", "noise"], outputs).map {
            #"{"name": "\#($0)", "outputs": {"logits": "\#(base64($1))"}}"#
        }
        let expected = #"""
            {"schema": 1, "app": {"name": "mobilevit-ios", "version": "0.1.0"},
            "device": {"model": "iPhone16,1", "system": "iOS 18.1", "processor": null},
            "artifact": {"name": "tiny-coreml-fp16", "file": "tiny.mlpackage", "sha256": "\#(String(repeating: "a", count: 64))",
            "reference_sha256": "\#(SHA256Digest.hex(of: tinyReference()))"},
            "created": "2026-11-29T12:00:00Z", "runs": [
            {"runtime": "coreml", "runtime_version": null, "accelerator": "ane", "precision": null, "fully_accelerated": null,
            "cases": [\#(rows.joined(separator: ","))], "error": null,
            "latency": {"warm_up": 5, "inference_ms": {"samples": [4.1, 4.25, 4], "p50": 4.1, "p90": 4.25}, "with_preprocessing_ms": null},
            "peak_memory_bytes": 123, "thermal_state": "nominal"},
            {"runtime": "coreml", "runtime_version": "7", "accelerator": "gpu", "precision": null, "fully_accelerated": false,
            "cases": [], "error": "no GPU", "latency": null, "peak_memory_bytes": null, "thermal_state": null}]}
            """#
        guard case .object(var document) = try JSONNode(data, file: "report").value else { return XCTFail("no object") }
        XCTAssertNotNil(document.removeValue(forKey: "digest"))
        XCTAssertEqual(JSON.object(document), try JSONNode(Data(expected.utf8), file: "expected").value)
    }

    func testOutputsAreLittleEndianFloats() {
        XCTAssertEqual(base64([1, -2.5]), Data([0, 0, 128, 63, 0, 0, 32, 192]).base64EncodedString())
    }

    func testPartsOfARunAndTwoOfOneKindAreRefused() throws {
        assertThrowsKitError(try report([]).data(), "each of the 3 cases")
        assertThrowsKitError(try report([.init(engine: facts, outputs: [[1, 2, 3]])]).data(), "each of the 3 cases")
        let run = DeviceReport.Run(engine: facts, outputs: outputs)
        assertThrowsKitError(try report([run, run]).data(), "another runtime")
    }

    func testTheFileNameSaysArtifactAndTime() throws {
        XCTAssertEqual(try report([]).fileName, "tiny-coreml-fp16-20261129T120000Z.device-report.json")
    }

    func testTextsBecomeOneLineOfBoundedLength() {
        XCTAssertEqual(oneLine(" a\n\tb\u{2028}c\u{85}d \u{0}"), "a b c d")
        XCTAssertEqual(oneLine("\n"), "unknown")
        XCTAssertEqual(oneLine(String(repeating: "é", count: 300), limit: 200).unicodeScalars.count, 200)
    }

    func testThisDeviceIsDescribed() {
        XCTAssertFalse(DeviceFacts.current.system.isEmpty)
        XCTAssertGreaterThan(DeviceFacts.peakMemoryBytes ?? 0, 1 << 20)
    }
}
