import XCTest

@testable import MobileViTDemoLogic
@testable import MobileViTKit

/// Opens what a test wants, and notes what was asked for.
actor Engines {
    private var outcomes: [String: Result<any Engine, KitError>] = [:]
    private(set) var opened: [String] = []
    private var waiting: [String: CheckedContinuation<Void, Never>] = [:]
    private var observers: [String: CheckedContinuation<Void, Never>] = [:]
    private var held: Set<String> = []

    func set(_ id: String, _ outcome: Result<any Engine, KitError>) { outcomes[id] = outcome }
    /// Holds back the opening of an engine until `release`.
    func hold(_ id: String) { held.insert(id) }

    func release(_ id: String) {
        held.remove(id)
        waiting.removeValue(forKey: id)?.resume()
    }

    /// Returns when the opening of an engine is held back.
    func reached(_ id: String) async {
        if waiting[id] == nil { await withCheckedContinuation { observers[id] = $0 } }
    }

    func open(_ choice: EngineChoice) async throws -> any Engine {
        opened.append(choice.id)
        if held.contains(choice.id) {
            await withCheckedContinuation {
                waiting[choice.id] = $0
                observers.removeValue(forKey: choice.id)?.resume()
            }
        }
        return try outcomes[choice.id, default: .failure(.engine("no \(choice.id)"))].get()
    }

    nonisolated var source: EngineSource { source(missing: [:]) }

    /// `missing`: what the device lacks, by the choice's id.
    nonisolated func source(missing: [String: String]) -> EngineSource {
        EngineSource { manifest in
            manifest.format == "coreml"
                ? [.init(runtime: "coreml", accelerator: .all), .init(runtime: "coreml", accelerator: .gpu)] : []
        } missing: {
            missing[$0.id]
        } open: { choice, _ in
            try await self.open(choice)
        }
    }
}

let right: [[Float]] = [[4, 1, -2], [0, 3, 1], [-1, 0, 5]]

@MainActor final class DemoModelTests: XCTestCase, @unchecked Sendable {
    private func model(
        _ artifacts: [ArtifactFolder], _ engines: Engines, missing: [String: String] = [:]
    ) -> DemoModel {
        let source = engines.source(missing: missing)
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        let library = ArtifactLibrary(
            bundled: artifacts.map(\.url), imported: folder.appendingPathComponent("artifacts"))
        let verifying = VerifyModel(
            source: source, reports: folder.appendingPathComponent("reports"), appVersion: "1", samples: 0)
        return DemoModel(library: library, verifying: verifying, source: source)
    }

    func testTheFirstArtifactThatAnEngineRunsIsOpened() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine(right)))
        let foreign = try tinyArtifact(self, [#""coreml", "precision""#: #""tflite", "precision""#])
        let model = model([foreign, try tinyArtifact(self)], engines)
        await model.start()
        XCTAssertEqual(model.artifact?.manifest.format, "coreml")
        XCTAssertEqual(model.engineID, "coreml-all")
        XCTAssertEqual(model.classifying.state, .waiting)
        XCTAssertEqual(model.verified, ["coreml-all", "coreml-gpu"])
        await model.select(artifact: foreign.id)
        XCTAssertEqual(model.engines.map(\.canBeTried), [false])
        XCTAssertTrue(try XCTUnwrap(model.engines[0].unavailable).contains("TFLite"))
        XCTAssertEqual(model.classifying.state, .failed(try XCTUnwrap(model.engines[0].unavailable)))
        XCTAssertTrue(model.verified.isEmpty)
    }

    func testAnEngineThatCannotBeOpenedSaysWhyAndNoOtherIsTried() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .failure(.engine("the Neural\nEngine is busy")))
        let model = model([try tinyArtifact(self)], engines)
        await model.start()
        XCTAssertEqual(model.classifying.state, .failed("the Neural Engine is busy"))
        XCTAssertEqual(model.engine?.unavailable, "the Neural Engine is busy")
        XCTAssertEqual(model.engine?.canBeTried, true)
        let opened = await engines.opened
        XCTAssertEqual(opened, ["coreml-all"])
        await engines.set("coreml-all", .success(ReplayEngine(right)))
        await model.select(engine: "coreml-all")
        XCTAssertNil(model.engine?.unavailable)
        XCTAssertEqual(model.classifying.state, .waiting)
    }

    func testAnAcceleratorThatTheDeviceLacksIsListedWithTheReasonAndNotTried() async throws {
        let engines = Engines()
        await engines.set("coreml-gpu", .success(ReplayEngine(right)))
        let model = model([try tinyArtifact(self)], engines, missing: ["coreml-all": "this device has no such thing"])
        await model.start()
        XCTAssertEqual(model.engines.map(\.unavailable), ["this device has no such thing", nil])
        XCTAssertEqual(model.engines.map(\.canBeTried), [false, true])
        XCTAssertEqual(model.engineID, "coreml-gpu")
        XCTAssertEqual(model.verified, ["coreml-gpu"])
        await model.select(engine: "coreml-all")
        XCTAssertEqual(model.classifying.state, .failed("this device has no such thing"))
        let opened = await engines.opened
        XCTAssertEqual(opened, ["coreml-gpu"])
    }

    func testAnEngineThatOpensLateDoesNotReplaceALaterChoice() async throws {
        let engines = Engines()
        let slow = ReplayEngine([[9, 0, 0]]), fast = ReplayEngine([[0, 0, 9]])
        await engines.set("coreml-all", .success(slow))
        await engines.set("coreml-gpu", .success(fast))
        await engines.hold("coreml-all")
        let model = model([try tinyArtifact(self)], engines)
        let start = Task { await model.start() }
        await engines.reached("coreml-all")
        await model.select(engine: "coreml-gpu")
        await engines.release("coreml-all")
        await start.value
        XCTAssertEqual(model.engineID, "coreml-gpu")
        await model.classifying.classify(photo, layout)
        guard case .answered(let outcome) = model.classifying.state else {
            return XCTFail("\(model.classifying.state)")
        }
        XCTAssertEqual(outcome.scores.first?.label, "fox")
    }

    func testAnswersHaveLabelsProbabilitiesAndTimesAfterTheWarmUp() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine([[0, log(3), -100]])))
        let model = model([try tinyArtifact(self)], engines)
        await model.start()
        await model.classifying.classify(photo, layout)
        guard case .answered(let first) = model.classifying.state else { return XCTFail("\(model.classifying.state)") }
        XCTAssertEqual(first.scores.map(\.label), ["dog", "cat", "fox"])
        XCTAssertEqual(first.scores.map(\.percent), ["75.0%", "25.0%", "0.0%"])
        XCTAssertEqual(first.scores.map(\.isBest), [true, false, false])
        XCTAssertEqual(first.times, "1.0 ms, warming up")
        for _ in 0..<5 { await model.classifying.classify(photo, layout) }
        guard case .answered(let last) = model.classifying.state else { return XCTFail("\(model.classifying.state)") }
        XCTAssertTrue(last.times.hasPrefix("p50 6.0 ms · p90 6.0 ms of 1 picture, "), last.times)
    }

    func testPercentilesAreOfTheLastHundredPictures() async {
        var times = RecentTimes()
        for number in 1...205 { times.add(inference: Double(number), preparation: 2) }
        XCTAssertEqual(times.summary, "p50 155.0 ms · p90 195.0 ms of 100 pictures, 2.0 ms to prepare one")
    }

    func testAFrameIsDroppedWhileOneIsClassified() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine(right)))
        let model = model([try tinyArtifact(self)], engines)
        let intake = model.classifying.intake
        XCTAssertNil(try photo.withUnsafeBytes { try intake.take($0, layout) }, "no engine is open")
        await model.start()
        let frame = try XCTUnwrap(photo.withUnsafeBytes { try intake.take($0, layout) })
        XCTAssertNil(try photo.withUnsafeBytes { try intake.take($0, layout) })
        await model.classifying.classify(frame)
        let next = try XCTUnwrap(photo.withUnsafeBytes { try intake.take($0, layout) })
        await model.select(engine: "coreml-all")
        await model.classifying.classify(next)
        XCTAssertEqual(model.classifying.state, .waiting, "a frame of before the engine was opened again has no answer")
        XCTAssertNotNil(try photo.withUnsafeBytes { try intake.take($0, layout) })
    }

    func testAPhotographStaysWhileItIsShownAndEveryEngineAnswersToIt() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine([[9, 0, 0]])))
        await engines.set("coreml-gpu", .success(ReplayEngine([[0, 0, 9]])))
        let model = model([try tinyArtifact(self)], engines)
        let classifying = model.classifying
        func best() -> String? {
            if case .answered(let outcome) = classifying.state { outcome.scores.first?.label } else { nil }
        }
        await model.start()
        let late = try XCTUnwrap(photo.withUnsafeBytes { try classifying.intake.take($0, layout) })
        await classifying.classify(photo, layout)
        let shown = classifying.state
        await classifying.classify(late)
        XCTAssertEqual(classifying.state, shown, "a frame of the camera does not replace the photograph's answer")
        XCTAssertNil(try photo.withUnsafeBytes { try classifying.intake.take($0, layout) })
        XCTAssertEqual(best(), "cat")
        await model.select(engine: "coreml-gpu")
        XCTAssertEqual(best(), "fox")
        XCTAssertNil(try photo.withUnsafeBytes { try classifying.intake.take($0, layout) })
        classifying.useCamera()
        XCTAssertEqual(classifying.state, .waiting)
        XCTAssertNotNil(try photo.withUnsafeBytes { try classifying.intake.take($0, layout) })
    }

    func testMemoryThatIsTooShortIsRefusedAndTheNextFrameIsTaken() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine(right)))
        let model = model([try tinyArtifact(self)], engines)
        await model.start()
        assertThrowsKitError(
            try photo.dropLast().withUnsafeBytes { try model.classifying.intake.take($0, layout) }, "too few")
        XCTAssertNotNil(try photo.withUnsafeBytes { try model.classifying.intake.take($0, layout) })
    }

    func testScoresThatAreNotFiniteAndFailuresAreShown() async throws {
        let engines = Engines()
        await engines.set("coreml-all", .success(ReplayEngine([[.nan, 1, 2]])))
        await engines.set("coreml-gpu", .success(ReplayEngine([])))
        let model = model([try tinyArtifact(self)], engines)
        await model.start()
        await model.classifying.classify(photo, layout)
        XCTAssertEqual(model.classifying.state, .failed("The scores are not finite numbers."))
        await model.select(engine: "coreml-gpu")
        await model.classifying.classify(photo, layout)
        XCTAssertEqual(model.classifying.state, .failed("the accelerator is busy"))
    }

    func testTheCropIsShownAsPartOfTheShorterSide() async {
        func crop(_ resizing: AppInput.Resizing) -> CGSize? { cropOfShorterSide(resizing) }
        XCTAssertEqual(
            crop(.init(mode: .shorterSide, size: [288], filter: .bicubic, centerCrop: [256, 192])),
            CGSize(width: 192.0 / 288, height: 256.0 / 288)
        )
        XCTAssertNil(crop(.init(mode: .squash, size: [256, 256], filter: .bicubic, centerCrop: nil)))
        XCTAssertNil(crop(.init(mode: .shorterSide, size: [64], filter: .bicubic, centerCrop: [96, 64])))
    }
}

/// A photograph of 8x6 pixels in BGRA.
let photo = [UInt8](repeating: 128, count: 8 * 6 * 4)
let layout = try! PixelLayout(width: 8, height: 6, format: .bgra)
