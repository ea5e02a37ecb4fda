import Foundation
import XCTest

@testable import MobileViTKit

/// The repository that this package lies in.
let repository = URL(fileURLWithPath: #filePath).pathComponents.dropLast(6).dropFirst()
    .reduce(URL(fileURLWithPath: "/")) { $0.appendingPathComponent($1) }

/// A manifest as the SDK writes it, of an input of 4x6 pixels and 3 classes; `changes` replaces text in it.
func manifestText(_ changes: [String: String] = [:]) -> String {
    var text = """
        {"schema": 1, "file": "tiny.mlpackage", "format": "coreml", "precision": "fp16", "backend": null, "target": "coreml",
        "bytes": 5, "sha256": "\(String(repeating: "a", count: 64))",
        "spec": {"model": "tiny", "family": "mobilevit", "config": {"num_classes": 3}, "labels": ["cat", "dog", "fox"]},
        "app_input": {"name": "image", "layout": "picture", "shape": [1, 3, 4, 6], "dtype": "uint8", "channel_order": "RGB",
        "range": [0.0, 255.0], "mean_and_std": "in the graph", "resizing": {"mode": "shorter side", "size": [5],
        "filter": "bicubic", "antialias": true, "center_crop": [4, 6]}},
        "operators": {"conv": 1}, "undelegated_ops": null, "quantization": null}
        """
    for (old, new) in changes {
        precondition(text.contains(old), "\(old) is not in the manifest")
        text = text.replacingOccurrences(of: old, with: new)
    }
    return text
}

func tinyManifest(_ changes: [String: String] = [:]) throws -> Manifest {
    try Manifest(data: Data(manifestText(changes).utf8))
}

/// A safetensors file of a header's text and the bytes behind it.
func safetensors(_ header: String, _ body: [UInt8] = []) -> Data {
    let text = Data(header.utf8)
    return Data((0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }) + text + Data(body)
}

/// Reference vectors that fit `manifestText`: two views and an edge case, whose best classes are 0, 1 and 2.
func tinyReference(logits: [Float] = [4, 1, -2, 0, 3, 1, -1, 0, 5]) -> Data {
    let body = logits.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * UInt32($0))) }
    }
    let images = (0..<216).map { UInt8($0) }
    let header = #"""
        {"__metadata__":{"cases":"[{\"name\": \"one\", \"contiguous\": true, \"role\": \"view\"}, {\"name\": \"two\", \"contiguous\": false, \"role\": \"view\"}, {\"name\": \"noise\", \"contiguous\": true, \"role\": \"edge\"}]"},
        "logits":{"dtype":"F32","shape":[3,3],"data_offsets":[0,36]},"images":{"dtype":"U8","shape":[3,3,4,6],"data_offsets":[36,252]}}
        """#
    return safetensors(header, body + images)
}

/// An artifact's folder with the file's bytes "12345"; removed when the test ends.
func tinyArtifact(_ test: XCTestCase, _ changes: [String: String] = [:], reference: Data = tinyReference()) throws
    -> ArtifactFolder
{
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        .appendingPathComponent("tiny-coreml-fp16")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    test.addTeardownBlock { try? FileManager.default.removeItem(at: folder.deletingLastPathComponent()) }
    try Data(manifestText(changes).utf8).write(to: folder.appendingPathComponent("manifest.json"))
    try reference.write(to: folder.appendingPathComponent("reference.safetensors"))
    try Data("12345".utf8).write(to: folder.appendingPathComponent("tiny.mlpackage"))
    return try ArtifactFolder(url: folder)
}

/// Answers with what it was given, one after the other, whatever the picture.
actor ReplayEngine: Engine {
    nonisolated let facts: EngineFacts
    private let outputs: [[Float]]
    private var next = 0
    private(set) var pictures: [Picture] = []

    init(_ outputs: [[Float]], accelerator: Accelerator = .ane) {
        self.outputs = outputs
        facts = EngineFacts(runtime: "coreml", accelerator: accelerator, fullyAccelerated: true)
    }

    func answer(_ picture: Picture) throws -> Answer {
        guard !outputs.isEmpty else { throw KitError.engine("the accelerator\nis busy") }
        pictures.append(picture)
        defer { next += 1 }
        return Answer(outputs: outputs[next % outputs.count], milliseconds: Double(next + 1))
    }
}

/// A reproducible generator (SplitMix64), so that a failure can be repeated.
struct Seeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

func assertThrowsKitError<T>(
    _ expression: @autoclosure () throws -> T, _ words: String = "", file: StaticString = #filePath, line: UInt = #line
) {
    XCTAssertThrowsError(try expression(), file: file, line: line) { error in
        guard let error = error as? KitError else {
            return XCTFail("\(error) is not a KitError", file: file, line: line)
        }
        XCTAssertTrue(
            error.message.contains(words), "\"\(error.message)\" does not say \"\(words)\"", file: file, line: line)
        XCTAssertFalse(error.message.contains("\n"), file: file, line: line)
    }
}
