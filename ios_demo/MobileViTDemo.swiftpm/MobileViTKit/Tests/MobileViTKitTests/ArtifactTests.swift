import XCTest

@testable import MobileViTKit

final class ArtifactTests: XCTestCase {
    func testAManifestOfTheSDKIsRead() throws {
        let manifest = try tinyManifest()
        XCTAssertEqual(manifest.file, "tiny.mlpackage")
        XCTAssertEqual(manifest.labels, ["cat", "dog", "fox"])
        XCTAssertEqual(manifest.heads, [Head(name: "logits", columns: 3, labels: ["cat", "dog", "fox"])])
        XCTAssertEqual([manifest.input.height, manifest.input.width], [4, 6])
        XCTAssertEqual(manifest.input.resizing.size, [5])
        XCTAssertEqual(manifest.rejections, [])
        XCTAssertNil(manifest.undelegatedOperators)
    }

    func testWhatIsFoundLiesBelowTheFolderAsItWasNamed() throws {
        let folder = try tinyArtifact(self).url.deletingLastPathComponent()
        let alias = folder.deletingLastPathComponent().appendingPathComponent(UUID().uuidString)
        try FileManager.default.createSymbolicLink(at: alias, withDestinationURL: folder)
        defer { try? FileManager.default.removeItem(at: alias) }
        XCTAssertEqual(
            ArtifactFolder.find(in: alias).artifacts.map(\.url.path),
            [alias.appendingPathComponent("tiny-coreml-fp16").path])
    }

    func testWhatAnExecuTorchFileSaysOfItsAcceleratorIsNoMoreThanIsKnown() throws {
        let expected: [(backend: String, undelegated: String, Accelerator, Bool?)] = [
            ("null", "null", .cpu, true),
            (#""xnnpack""#, #"{"aten.topk": 1}"#, .cpu, true),
            (#""coreml""#, "{}", .all, nil),
            (#""coreml""#, #"{"aten.topk": 1}"#, .all, false),
            (#""vulkan""#, "{}", .gpu, true),
            (#""vulkan""#, "null", .gpu, nil),
        ]
        for (backend, undelegated, accelerator, complete) in expected {
            let manifest = try tinyManifest([
                #""backend": null"#: #""backend": \#(backend)"#,
                #""undelegated_ops": null"#: #""undelegated_ops": \#(undelegated)"#,
            ])
            let facts = EngineFacts(executorch: manifest)
            XCTAssertEqual(facts.accelerator, accelerator, backend)
            XCTAssertEqual(facts.fullyAccelerated, complete, "\(backend) \(undelegated)")
        }
    }

    func testFeaturesAndRejectionsAreRead() throws {
        let features = try tinyManifest([#""labels": ["cat", "dog", "fox"]"#: #""features": "map""#])
        XCTAssertEqual(features.heads, [Head(name: "features", kind: .features, columns: nil)])
        let judged = #""quantization": {"judgment": {"rejected": true, "reasons": ["SQNR 2 dB"]}}"#
        XCTAssertEqual(try tinyManifest([#""quantization": null"#: judged]).rejections, ["SQNR 2 dB"])
    }

    func testWhatIsNotUnderstoodIsRefused() {
        let changes: [(String, String, String)] = [
            (#""schema": 1"#, #""schema": 3"#, "update the app"),
            (#""schema": 1"#, #""schema": 2"#, "schema 2 without entries"),
            ("tiny.mlpackage", "../tiny.mlpackage", "not in its folder"),
            ("tiny.mlpackage", "..", "not in its folder"),
            ("tiny.mlpackage", "", "not in its folder"),
            ("tiny.mlpackage", #"a\\b"#, "not in its folder"),
            ("tiny.mlpackage", #"a\u0000b"#, "not in its folder"),
            (#""bytes": 5"#, #""bytes": -5"#, "-5 bytes"),
            ("\"sha256\": \"a", "\"sha256\": \"A", "sha256"),
            ("RGB", "BGR", "channel_order"),
            ("in the graph", "by the app", "mean_and_std"),
            ("[0.0, 255.0]", "[0.0, 1.0]", "range"),
            ("[0.0, 255.0]", "[0.0]", "range"),
            ("[0.0, 255.0]", "[255.0, 0.0]", "range"),
            (#""dtype": "uint8""#, #""dtype": "float16""#, "dtype"),
            (#""layout": "picture""#, #""layout": "NCHW""#, "dtype"),
            (#""layout": "picture""#, #""layout": "CHWN""#, "app_input.layout"),
            ("[1, 3, 4, 6]", "[2, 3, 4, 6]", "shape"),
            ("[1, 3, 4, 6]", "[1, 3, 4]", "shape"),
            ("[1, 3, 4, 6]", "[1, 3, 4, 0]", "side"),
            ("[1, 3, 4, 6]", "[1, 3, 4, 9223372036854775807]", "side"),
            ("[5]", "[5, 5]", "crops"),
            ("[5]", "[0]", "size"),
            ("[4, 6]", "[4, 5]", "crops"),
            ("shorter side", "squash", "squashes"),
            ("shorter side", "longer side", "resizing.mode"),
            ("bicubic", "lanczos", "resizing.filter"),
            (#""antialias": true"#, #""antialias": false"#, "antialias"),
            (#""labels": ["cat", "dog", "fox"]"#, #""labels": []"#, "labels"),
            (#""labels": ["cat", "dog", "fox"]"#, #""labels": ["cat"], "features": "map""#, "labels"),
            (#""model": "tiny","#, "", "spec.model"),
            (#""precision": "fp16""#, #""precision": 16"#, "precision"),
        ]
        for (old, new, words) in changes { assertThrowsKitError(try tinyManifest([old: new]), words) }
        for text in ["", "[]", "null", "{", "\u{1}", String(repeating: "[", count: 100_000)] {
            assertThrowsKitError(try Manifest(data: Data(text.utf8)), "manifest.json")
        }
        assertThrowsKitError(try Manifest(data: Data(count: (16 << 20) + 1)), "16 MiB")
    }

    func testReferenceVectorsAreRead() throws {
        let reference = try Reference(data: tinyReference(), manifest: tinyManifest())
        XCTAssertEqual(reference.cases.map(\.name), ["one", "two", "noise"])
        XCTAssertEqual(reference.cases.map(\.role), [.view, .view, .edge])
        XCTAssertEqual(reference.answer(1), [0, 3, 1])
        let picture = reference.picture(1)  // planes of 24 bytes, from byte 72 on
        XCTAssertEqual([picture.width, picture.height], [6, 4])
        XCTAssertEqual(Array(picture.pixels.prefix(6)), [72, 96, 120, 73, 97, 121])
    }

    func testReferenceVectorsThatDoNotFitAreRefused() throws {
        let manifest = try tinyManifest()
        let whole = tinyReference()
        for (data, words) in [
            (Data(), "0 bytes"), (whole.prefix(7), "7 bytes"), (whole.dropLast(), "does not fit"),
            (whole + [0], "follow"),
            (tinyReference(logits: [.nan, 1, 2, 3, 4, 5, 6, 7, 8]), "not finite"),
            (Data([255, 255, 255, 255, 255, 255, 255, 127]) + whole, "cut short"),
            (safetensors("{}"), "no list of cases"),
        ] { assertThrowsKitError(try Reference(data: data, manifest: manifest), words) }
        let other = try tinyManifest(["[1, 3, 4, 6]": "[1, 3, 6, 4]", "[4, 6]": "[6, 4]"])
        assertThrowsKitError(try Reference(data: whole, manifest: other), "6x4")
        assertThrowsKitError(try tinyManifest([#"["cat", "dog", "fox"]"#: #"["cat", "dog"]"#]), "2 labels for the 3")
        let more = try tinyManifest([#""num_classes": 3"#: #""num_classes": 4"#, #"["cat", "dog", "fox"]"#: "null"])
        assertThrowsKitError(try Reference(data: whole, manifest: more), "expected [3, 4]")
    }

    func testTensorsThatOverlapLeaveGapsOrOverflowAreRefused() {
        func file(_ a: String, _ b: String) -> Data {
            safetensors(#"{"a":{"dtype":"U8","shape":\#(a)},"b":{"dtype":"U8","shape":\#(b)}}"#, [1, 2, 3, 4])
        }
        XCTAssertNoThrow(
            try Safetensors(data: file(#"[2],"data_offsets":[0,2]"#, #"[2],"data_offsets":[2,4]"#), name: "x"))
        for (a, b) in [
            (#"[2],"data_offsets":[0,2]"#, #"[3],"data_offsets":[1,4]"#),  // overlap
            (#"[1],"data_offsets":[0,1]"#, #"[2],"data_offsets":[2,4]"#),  // gap
            (#"[2],"data_offsets":[2,4]"#, #"[2],"data_offsets":[2,4]"#),  // both, and the same twice
            (#"[2],"data_offsets":[0,2]"#, #"[2],"data_offsets":[4,2]"#),
            (#"[2],"data_offsets":[0,2]"#, #"[3],"data_offsets":[2,5]"#),  // past the end
            (#"[2],"data_offsets":[0,2]"#, #"[2],"data_offsets":[-2,0]"#),
            (#"[2],"data_offsets":[0,2]"#, #"[-2],"data_offsets":[2,4]"#),
            (#"[2],"data_offsets":[0,2]"#, #"[2],"data_offsets":[2]"#),
            (#"[2],"data_offsets":[0,2]"#, #"[9223372036854775807,3],"data_offsets":[2,4]"#),
            (#"[2],"data_offsets":[0,2]"#, #"[2],"data_offsets":[2,18446744073709551615]"#),
        ] { assertThrowsKitError(try Safetensors(data: file(a, b), name: "x"), "x") }
        let twice =
            #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#
        assertThrowsKitError(try Safetensors(data: safetensors(twice, [1, 2]), name: "x"), "a key twice")
        assertThrowsKitError(
            try Safetensors(
                data: safetensors(
                    #"{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}"#, Array(repeating: 0, count: 8)), name: "x"
            ), "F64")
        assertThrowsKitError(try Safetensors(data: safetensors("{}"), name: "x").floats("a"), "no tensor \"a\"")
    }

    func testAFolderIsOpenedAndItsFileChecked() throws {
        let sha = SHA256Digest.hex(of: Data("12345".utf8))
        let artifact = try tinyArtifact(self, [String(repeating: "a", count: 64): sha])
        XCTAssertEqual(artifact.name, "tiny-coreml-fp16")
        XCTAssertNoThrow(try artifact.checkFile())
        XCTAssertEqual(try artifact.reference().cases.count, 3)
        let found = ArtifactFolder.find(in: artifact.url.deletingLastPathComponent())
        XCTAssertEqual(found.artifacts.map(\.name), ["tiny-coreml-fp16"])
        XCTAssertEqual(ArtifactFolder.find(in: artifact.url).artifacts.count, 1)
        try Data("12346".utf8).write(to: artifact.file)
        assertThrowsKitError(try artifact.checkFile(), "changed")
        try FileManager.default.removeItem(at: artifact.file)
        let refused = ArtifactFolder.find(in: artifact.url.deletingLastPathComponent())
        XCTAssertEqual(refused.artifacts.count, 0)
        XCTAssertTrue(refused.refusals.first?.contains("does not hold tiny.mlpackage") == true)
        assertThrowsKitError(
            try ArtifactFolder(url: artifact.url.appendingPathComponent("nowhere")), "manifest.json is missing")
    }
}
