import XCTest

@testable import MobileViTDemoLogic
@testable import MobileViTKit

@MainActor final class DemoArtifactTests: XCTestCase, @unchecked Sendable {
    /// An artifact whose file is the one that its manifest describes.
    private func artifact() throws -> ArtifactFolder {
        try tinyArtifact(self, [String(repeating: "a", count: 64): SHA256Digest.hex(of: Data("12345".utf8))])
    }

    private func library(bundled: [URL] = []) -> (ArtifactLibrary, imported: URL) {
        let imported = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        addTeardownBlock { try? FileManager.default.removeItem(at: imported) }
        return (ArtifactLibrary(bundled: bundled, imported: imported), imported)
    }

    private func names(_ folder: URL) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
    }

    func testAnAddedArtifactIsACopyWithWhatBelongsToItAlone() async throws {
        let (library, imported) = library()
        let source = try artifact()
        try Data("private".utf8).write(to: source.url.appendingPathComponent("notes.txt"))
        _ = try await library.add(source.url)
        XCTAssertEqual(library.entries.map(\.artifact.name), ["tiny-coreml-fp16"])
        XCTAssertEqual(library.entries.map(\.isImported), [true])
        XCTAssertEqual(library.entries[0].summary, "Core ML · fp16 · 0.0 MB · 3 classes")
        XCTAssertEqual(
            names(imported.appendingPathComponent("tiny-coreml-fp16")),
            ["manifest.json", "reference.safetensors", "tiny.mlpackage"])
        let second = try await library.add(source.url)
        XCTAssertEqual(second.lastPathComponent, "tiny-coreml-fp16-2", "nothing is replaced")
        XCTAssertEqual(names(imported), ["tiny-coreml-fp16", "tiny-coreml-fp16-2"])
    }

    func testNothingStaysOfADamagedArtifact() async throws {
        let damages: [(String, (URL) throws -> Void)] = [
            ("not the file", { try Data("1234".utf8).write(to: $0.appendingPathComponent("tiny.mlpackage")) }),
            (
                "reference.safetensors",
                { try Data("{".utf8).write(to: $0.appendingPathComponent("reference.safetensors")) }
            ),
            ("missing", { try FileManager.default.removeItem(at: $0.appendingPathComponent("reference.safetensors")) }),
            ("manifest.json", { try FileManager.default.removeItem(at: $0.appendingPathComponent("manifest.json")) }),
        ]
        for (words, damage) in damages {
            let (library, imported) = library()
            let source = try artifact()
            try damage(source.url)
            do {
                _ = try await library.add(source.url)
                XCTFail("taken in spite of: \(words)")
            } catch {
                XCTAssertTrue(explain(error).contains(words), explain(error))
            }
            XCTAssertEqual(names(imported), [])
            XCTAssertTrue(library.entries.isEmpty)
        }
    }

    func testDamagedFoldersAreListedAndPlainFilesAreNot() async throws {
        let (library, imported) = library()
        _ = try await library.add(try artifact().url)
        let bad = imported.appendingPathComponent("bad")
        try FileManager.default.createDirectory(at: bad, withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: bad.appendingPathComponent("manifest.json"))
        try Data("read me".utf8).write(to: imported.appendingPathComponent("README.md"))
        // As a copy leaves it when the app is stopped in the middle.
        let partial = imported.appendingPathComponent(".partial-1")
        try FileManager.default.copyItem(at: imported.appendingPathComponent("tiny-coreml-fp16"), to: partial)
        await library.reload()
        XCTAssertEqual(library.entries.count, 1)
        XCTAssertEqual(library.refusals.count, 1)
        XCTAssertTrue(library.refusals[0].hasPrefix("bad: "))
    }

    func testAnArtifactThatCameWithTheAppIsNotRemoved() async throws {
        let bundled = try artifact()
        let (library, _) = library(bundled: [bundled.url.deletingLastPathComponent()])
        let added = try await library.add(bundled.url)
        XCTAssertEqual(library.entries.map(\.isImported), [false, true])
        for entry in library.entries { try await library.remove(entry) }
        XCTAssertEqual(library.entries.map(\.isImported), [false])
        XCTAssertTrue(FileManager.default.fileExists(atPath: bundled.file.path))
        XCTAssertFalse(FileManager.default.fileExists(atPath: added.path))
    }

    func testTheNextArtifactIsOpenedWhenTheOpenOneIsRemoved() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine(right)))
        let (library, imported) = library()
        let model = DemoModel(
            library: library, verifying: VerifyModel(source: engines.source, reports: imported, appVersion: "1"),
            source: engines.source
        )
        await model.start()
        XCTAssertNil(model.artifact)
        await model.add(.success(try artifact().url))
        await model.add(.success(try artifact().url))
        XCTAssertNil(model.problem)
        XCTAssertEqual(model.artifact?.name, "tiny-coreml-fp16-2")
        await model.remove(at: [1])
        XCTAssertEqual(model.artifact?.name, "tiny-coreml-fp16")
        await model.remove(at: [0])
        XCTAssertNil(model.artifact)
        XCTAssertTrue(model.engines.isEmpty)
        XCTAssertEqual(model.classifying.state, .closed)
        await model.add(.failure(KitError.artifact("the folder is\ngone")))
        XCTAssertEqual(model.problem, "the folder is gone")
        XCTAssertFalse(model.isAdding)
    }
}
