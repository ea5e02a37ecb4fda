import XCTest

@testable import MobileViTDemoLogic
@testable import MobileViTKit

@MainActor final class DemoVerifyTests: XCTestCase, @unchecked Sendable {
    private let all = EngineChoice(runtime: "coreml", accelerator: .all)
    private let gpu = EngineChoice(runtime: "coreml", accelerator: .gpu)

    private func model(_ engines: Engines, samples: Int = 0) -> (VerifyModel, reports: URL) {
        let reports = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        addTeardownBlock { try? FileManager.default.removeItem(at: reports) }
        return (VerifyModel(source: engines.source, reports: reports, appVersion: "1.2", samples: samples), reports)
    }

    func testEachEngineIsARowAndTheReportHasThemAll() async throws {
        let engines = Engines()
        await engines.set(all.id, .success(ReplayEngine(right, accelerator: .all)))
        await engines.set(gpu.id, .failure(.engine("no GPU here")))
        let (model, reports) = model(engines, samples: 1)
        await model.start(try tinyArtifact(self), on: [all, gpu]).value
        guard case .finished(let outcome) = model.state else { return XCTFail("\(model.state)") }
        XCTAssertEqual(outcome.rows.map(\.passed), [true, false])
        XCTAssertEqual(outcome.rows.map(\.summary), ["The same answers as PyTorch", "Could not run"])
        XCTAssertTrue(
            outcome.rows[0].details.contains("worst case 200.0 dB of at least 40 dB: one"), "\(outcome.rows[0].details)"
        )
        XCTAssertTrue(outcome.rows[0].details.contains("the same best class in 3 of 3 cases"))
        XCTAssertTrue(
            outcome.rows[0].details.contains("p50 9.0 ms · p90 9.0 ms"), "after three cases and a warm-up of five")
        XCTAssertEqual(outcome.rows[1].details, ["no GPU here"])
        XCTAssertEqual(outcome.report.deletingLastPathComponent().path, reports.path)
        XCTAssertTrue(outcome.report.lastPathComponent.hasSuffix(".device-report.json"))
        let report = try XCTUnwrap(
            JSONSerialization.jsonObject(with: Data(contentsOf: outcome.report)) as? [String: Any])
        let runs = try XCTUnwrap(report["runs"] as? [[String: Any]])
        XCTAssertEqual(runs.map { $0["accelerator"] as? String }, ["all", "gpu"])
        XCTAssertEqual(runs.map { ($0["cases"] as? [Any])?.count }, [3, 0])
        XCTAssertEqual(runs[1]["error"] as? String, "no GPU here")
        XCTAssertEqual((report["app"] as? [String: Any])?["version"] as? String, "1.2")
    }

    func testOtherAnswersThanPyTorchFail() async throws {
        let engines = Engines()
        await engines.set(all.id, .success(ReplayEngine([[1, 4, -2], [0, 3, 1], [-1, 0, 5]])))
        let (model, _) = model(engines)
        await model.start(try tinyArtifact(self), on: [all]).value
        guard case .finished(let outcome) = model.state else { return XCTFail("\(model.state)") }
        XCTAssertEqual(outcome.rows.map(\.passed), [false])
        XCTAssertEqual(outcome.rows[0].summary, "Other answers than PyTorch")
        XCTAssertTrue(outcome.rows[0].details[0].contains("'one'"), "\(outcome.rows[0].details)")
        XCTAssertTrue(outcome.rows[0].details.contains("the same best class in 2 of 3 cases"))
    }

    func testADamagedArtifactIsAnErrorWithoutAReport() async throws {
        let engines = Engines()
        await engines.set(all.id, .failure(.artifact("tiny.mlpackage was changed")))
        let (model, reports) = model(engines)
        await model.start(try tinyArtifact(self), on: [all, gpu]).value
        XCTAssertEqual(model.state, .failed("tiny.mlpackage was changed"))
        await model.start(try tinyArtifact(self, reference: Data("{}".utf8)), on: [all]).value
        guard case .failed = model.state else { return XCTFail("\(model.state)") }
        XCTAssertFalse(FileManager.default.fileExists(atPath: reports.path))
    }

    func testCancelKeepsNothingAndALaterStartIsNotDisturbed() async throws {
        let engines = Engines()
        await engines.set(all.id, .success(ReplayEngine(right)))
        await engines.hold(all.id)
        let (model, reports) = model(engines)
        let artifact = try tinyArtifact(self)
        let first = model.start(artifact, on: [all])
        XCTAssertTrue(model.isRunning)
        await engines.reached(all.id)
        model.cancel()
        XCTAssertEqual(model.state, .cancelled)
        await engines.release(all.id)
        await first.value
        XCTAssertEqual(model.state, .cancelled)
        XCTAssertFalse(FileManager.default.fileExists(atPath: reports.path))
        await model.start(artifact, on: [all]).value
        guard case .finished = model.state else { return XCTFail("\(model.state)") }
        model.reset()
        XCTAssertEqual(model.state, .idle)
    }

    func testProgressNamesTheEngineAndNeverGoesBack() async throws {
        let engines = Engines()
        await engines.set(all.id, .success(ReplayEngine(right)))
        await engines.set(gpu.id, .success(ReplayEngine(right)))
        await engines.hold(gpu.id)
        let (model, _) = model(engines)
        let running = model.start(try tinyArtifact(self), on: [all, gpu])
        await engines.reached(gpu.id)
        // The steps are on their way to the main actor; a busy machine may take its time.
        let end = ContinuousClock.now + .seconds(600)
        while ContinuousClock.now < end {
            if case .running(let progress) = model.state, progress.engine == gpu.title { break }
            await Task.yield()
        }
        guard case .running(let progress) = model.state else { return XCTFail("\(model.state)") }
        XCTAssertEqual(progress.fraction, 0.5)
        XCTAssertEqual(progress.step, "Opening the model")
        await engines.release(gpu.id)
        await running.value
    }
}
