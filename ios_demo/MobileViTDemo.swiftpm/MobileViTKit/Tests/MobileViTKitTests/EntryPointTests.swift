import Foundation
import XCTest

@testable import MobileViTDemoLogic
@testable import MobileViTKit

/// The artifact of `manifestText` with the input sizes 4x6, 6x4 and 4x4.
private enum Several {
    static let sizes = [[4, 6], [6, 4], [4, 4]]

    static func input(_ height: Int, _ width: Int) -> String {
        #"""
        {"name": "image", "layout": "picture", "shape": [1, 3, \#(height), \#(width)], "dtype": "uint8", "channel_order": "RGB",
        "range": [0.0, 255.0], "mean_and_std": "in the graph", "resizing": {"mode": "shorter side", "size": [5],
        "filter": "bicubic", "antialias": true, "center_crop": [\#(height), \#(width)]}}
        """#
    }

    static func changes() -> [String: String] {
        let outputs = #""outputs": [{"name": "logits", "shape": [1, 3], "dtype": "float32"}]"#
        let entries = sizes.enumerated().map { place, size in
            let name = place == 0 ? "main" : "image_\(size[0])x\(size[1])"
            return #"{"name": "\#(name)", "image_size": \#(size), "app_input": \#(input(size[0], size[1])), \#(outputs)}"#
        }
        return [
            #""schema": 1"#: #""schema": 2, "entries": [\#(entries.joined(separator: ", "))], \#(outputs)"#,
            #""model": "tiny""#: #""model": "tiny", "image_sizes": \#(sizes)"#,
        ]
    }

    static func text(_ change: (String) -> String = { $0 }) -> Data {
        Data(change(manifestText(changes())).utf8)
    }

    /// Two cases of the first size, and one of each other; `names` and `counts` are those of the images.
    static func reference(
        names: [String] = ["images", "images_6x4", "images_4x4"], counts: [Int] = [2, 1, 1], cases: Int = 4
    ) -> Data {
        let logits = (0..<cases).flatMap { (place: Int) -> [Float] in
            (0..<3).map { $0 == place % 3 ? 4 : Float($0) }
        }
        let body = logits.flatMap { value in
            (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * UInt32($0))) }
        }
        var end = body.count
        var tensors = "", images: [UInt8] = []
        for (place, size) in sizes.enumerated() {
            let count = counts[place] * 3 * size[0] * size[1]
            images += (0..<count).map { UInt8(truncatingIfNeeded: $0 + 100 * place) }
            let shape = "[\(counts[place]),3,\(size[0]),\(size[1])]"
            tensors += #","\#(names[place])":{"dtype":"U8","shape":\#(shape),"data_offsets":[\#(end),\#(end + count)]}"#
            end += count
        }
        let rows = (0..<cases).map { #"{\"name\": \"case \#($0)\"}"# }.joined(separator: ", ")
        let header =
            #"{"__metadata__":{"cases":"[\#(rows)]"},"logits":{"dtype":"F32","shape":[\#(cases),3],"#
            + #""data_offsets":[0,\#(body.count)]}\#(tensors)}"#
        return safetensors(header, body + images)
    }
}

extension String {
    fileprivate func replacingFirst(_ old: String, _ new: String, after start: String = "") -> String {
        let from = start.isEmpty ? startIndex : range(of: start)!.lowerBound
        return replacingCharacters(in: range(of: old, range: from..<endIndex)!, with: new)
    }
}

final class EntryPointTests: XCTestCase {
    func testAPictureTakesTheNearestAspectRatioAndOfEqualsTheFirst() throws {
        let golden = repository.appendingPathComponent("tests/golden/entries.json")
        try XCTSkipUnless(FileManager.default.fileExists(atPath: golden.path), "only in the SDK's repository")
        let resizing = AppInput.Resizing(mode: .shorterSide, size: [1], filter: .bilinear, centerCrop: [1, 1])
        for group in try JSONNode(try Data(contentsOf: golden), file: "entries.json").list() {
            let sizes = try group["sizes"].list().map { try $0.list().map { try $0.integer() } }
            let entries = sizes.map { size in
                EntryPoint(
                    name: nil,
                    input: AppInput(name: "image", layout: .nchw, shape: [1, 3] + size, resizing: resizing))
            }
            for picture in try group["pictures"].list() {
                let (width, height) = (try picture["width"].integer(), try picture["height"].integer())
                XCTAssertEqual(
                    entries.nearest(width: width, height: height), try picture["entry"].integer(),
                    "\(width)x\(height) of \(sizes)")
            }
        }
    }

    func testEntriesAreReadAndAFileOfOneSizeHasOneWithoutAName() throws {
        let manifest = try Manifest(data: Several.text())
        XCTAssertEqual(manifest.entries.map(\.name), ["main", "image_6x4", "image_4x4"])
        XCTAssertEqual(manifest.entries.map { [$0.input.height, $0.input.width] }, Several.sizes)
        XCTAssertEqual(manifest.entries[0].input, manifest.input)
        XCTAssertEqual(manifest.entries[1].title, "image_6x4, 4×6 pixels")
        let one = try tinyManifest()
        XCTAssertEqual(one.entries, [EntryPoint(name: nil, input: one.input)])
        XCTAssertNil(one.entries[0].title)
    }

    func testEntriesThatDisagreeAreRefused() throws {
        let all = "[[4, 6], [6, 4], [4, 4]]"
        let changes: [(String, String, String, String)] = [
            ("", #""schema": 2"#, #""schema": 1"#, "schema 1 with entries"),
            ("", #""entries""#, #""others""#, "schema 2 without entries"),
            ("", "image_sizes", "image_size", "spec.image_sizes are not"),
            ("", all, "[[4, 6], [6, 4]]", "spec.image_sizes are not"),
            ("", all, "[[4, 6], [6, 4], [4]]", "a size of 1 numbers"),
            ("", all, #"[[4, 6], [6, 4], "4x4"]"#, "image_sizes"),
            ("", "image_6x4", "image_4x6", "is called \"image_4x6\", expected image_6x4"),
            ("", #""name": "main""#, #""name": "forward""#, "expected main"),
            ("", #""image_size": [6, 4]"#, #""image_size": [4, 6]"#, "spec.image_sizes are not"),
            ("image_6x4", "[1, 3, 6, 4]", "[1, 3, 4, 6]", "crops to another size"),
            ("image_6x4", #""name": "image""#, #""name": "x""#, "image_6x4 does not take and answer"),
            ("image_6x4", "[1, 3], ", "[1, 4], ", "image_6x4 does not take and answer"),
            ("image_6x4", "logits", "scores", "image_6x4 does not take and answer"),
            (#""name": "main""#, "bicubic", "bilinear", "main does not take and answer"),
            ("image_6x4", "bicubic", "lanczos", "filter"),
        ]
        for (start, old, new, words) in changes {
            assertThrowsKitError(
                try Manifest(data: Several.text { $0.replacingFirst(old, new, after: start) }), words)
        }
        let twice = Several.text {
            $0.replacingFirst(all, "[[4, 6], [6, 4], [6, 4]]")
                .replacingFirst(#""image_size": [4, 4]"#, #""image_size": [6, 4]"#)
        }
        assertThrowsKitError(try Manifest(data: twice), "two entries have one image_size")
        assertThrowsKitError(
            try tinyManifest([#""model": "tiny""#: #""model": "tiny", "image_sizes": [[4, 6], [6, 4]]"#]),
            "spec has image_sizes")
    }

    func testReferenceVectorsHoldTheCasesOfAllSizesAndOthersAreRefused() throws {
        let manifest = try Manifest(data: Several.text())
        let reference = try Reference(data: Several.reference(), manifest: manifest)
        XCTAssertEqual(reference.cases.map(\.entry), [0, 0, 1, 2])
        let pictures = reference.cases.indices.map(reference.picture)
        XCTAssertEqual(pictures.map { [$0.height, $0.width] }, [[4, 6], [4, 6], [6, 4], [4, 4]])
        XCTAssertEqual(pictures.map { $0.pixels[0] }, [0, 72, 100, 200])
        assertThrowsKitError(
            try Reference(
                data: Several.reference(names: ["images", "images_6x4", "images_4x6"]), manifest: manifest),
            "does not hold images_4x4 of 4x4")
        for counts in [[2, 2, 1], [2, 1, 0], [1, 1, 1]] {
            assertThrowsKitError(
                try Reference(data: Several.reference(counts: counts), manifest: manifest), "does not hold")
        }
    }

    private func artifact() throws -> ArtifactFolder {
        try tinyArtifact(self, Several.changes(), reference: Several.reference())
    }

    func testEachCaseRunsInItsEntryAndEveryEntryIsTimed() async throws {
        let artifact = try artifact(), reference = try artifact.reference()
        let engine = ReplayEngine(reference.cases.indices.map(reference.answer))
        let verification = Verification(artifact: artifact, reference: reference, warmUp: 1, samples: 2)
        let result = try await verification.run(on: engine)
        XCTAssertEqual(result.preview?.passed, true)
        let sizes = await engine.pictures.map { [$0.height, $0.width] }
        XCTAssertEqual(sizes.prefix(4), [[4, 6], [4, 6], [6, 4], [4, 4]])
        XCTAssertEqual(Array(sizes.dropFirst(4)), Several.sizes.flatMap { Array(repeating: $0, count: 3) })
        let latency = result.run.latency!
        XCTAssertEqual(latency.entries.map(\.name), ["main", "image_6x4", "image_4x4"])
        XCTAssertEqual(latency.entries[0].inference, latency.inference)
        let report = DeviceReport(appVersion: "1", artifact: artifact, reference: reference, runs: [result.run])
        let document = try JSONNode(try report.data(), file: "report")
        let told = try document["runs"].list()[0]["latency"]["entries"].list()
        XCTAssertEqual(try told.map { try $0["name"].text() }, ["main", "image_6x4", "image_4x4"])
        XCTAssertEqual(try told[2]["inference_ms"]["samples"].list().count, 2)
        XCTAssertEqual(try told[2].object().count, 3)
    }

    func testAFileOfOneSizeReportsNoEntries() async throws {
        let artifact = try tinyArtifact(self), reference = try artifact.reference()
        let engine = ReplayEngine(reference.cases.indices.map(reference.answer))
        let verification = Verification(artifact: artifact, reference: reference, warmUp: 1, samples: 2)
        let run = try await verification.run(on: engine).run
        let report = DeviceReport(appVersion: "1", artifact: artifact, reference: reference, runs: [run])
        let latency = try JSONNode(try report.data(), file: "report")["runs"].list()[0]["latency"]
        XCTAssertEqual(Set(try latency.object().keys), ["warm_up", "inference_ms", "with_preprocessing_ms"])
    }

    func testAPictureOfAnotherSizeThanAnyEntryIsRefused() throws {
        let entries = try Manifest(data: Several.text()).entries
        XCTAssertEqual(try entries.place(of: Picture(width: 4, height: 6)), 1)
        assertThrowsKitError(try entries.place(of: Picture(width: 6, height: 6)), "the picture's size, 6x6")
    }

    @MainActor func testAPhotographRunsInTheEntryThatItTakesAndTheScreenSaysWhich() async throws {
        let artifact = try artifact(), engine = ReplayEngine([[4, 1, -2]]), model = ClassifyModel()
        let source = EngineSource {
            _ in []
        } missing: {
            _ in nil
        } open: { _, _ in
            engine
        }
        await model.open(artifact, on: EngineChoice(runtime: "coreml", accelerator: .all), from: source)
        for (width, height, place) in [(30, 20, 0), (20, 30, 1), (20, 20, 2)] {
            let layout = try PixelLayout(width: width, height: height, format: .rgb, orientation: .up)
            await model.classify([UInt8](repeating: 9, count: 3 * width * height), layout)
            guard case .answered(let outcome) = model.state else { return XCTFail("\(model.state)") }
            XCTAssertEqual(outcome.answeredBy, artifact.manifest.entries[place].title)
            XCTAssertEqual(model.entry, place)
            let last = await engine.pictures.last!
            XCTAssertEqual([last.height, last.width], Several.sizes[place])
        }
    }
}
