import XCTest

@testable import MobileViTKit

final class VerificationTests: XCTestCase {
    private func verification(_ changes: [String: String] = [:], samples: Int = 0, reference: Data = tinyReference())
        throws -> Verification
    {
        let artifact = try tinyArtifact(self, changes, reference: reference)
        return Verification(artifact: artifact, reference: try artifact.reference(), warmUp: 2, samples: samples)
    }

    private func answers(_ reference: Reference) -> [[Float]] { reference.cases.indices.map(reference.answer) }

    func testTheReferencesOwnAnswersPass() async throws {
        let verification = try verification()
        let engine = ReplayEngine(answers(verification.reference))
        let result = try await verification.run(on: engine)
        XCTAssertTrue(result.preview!.passed)
        XCTAssertEqual(result.preview!.worst.sqnrDB, 200)
        XCTAssertEqual(result.preview!.top1Agreement, 1)
        XCTAssertEqual(result.run.outputs, answers(verification.reference))
        XCTAssertNil(result.run.latency)
        let pictures = await engine.pictures
        XCTAssertEqual(pictures, verification.reference.cases.indices.map(verification.reference.picture))
    }

    func testPerturbedAnswersFailAndNameTheWorstCase() async throws {
        let verification = try verification()
        var outputs = answers(verification.reference)
        outputs[1][1] += 0.1  // 3.0 of [0, 3, 1]: about 30 dB where fp16 needs 40
        let preview = try await verification.run(on: ReplayEngine(outputs)).preview!
        XCTAssertFalse(preview.passed)
        XCTAssertEqual(preview.worst.name, "two")
        XCTAssertEqual(preview.worst.sqnrDB, 30, accuracy: 0.01)
        XCTAssertTrue(preview.reasons[0].contains("on 'two' is below 40 dB"), preview.reasons[0])
        XCTAssertEqual(preview.top1Agreement, 1)
    }

    func testAnotherBestClassFails() async throws {
        let verification = try verification()
        var outputs = answers(verification.reference)
        outputs[0].swapAt(0, 1)
        let preview = try await verification.run(on: ReplayEngine(outputs)).preview!
        XCTAssertEqual(preview.cases.map(\.sameBest), [false, true, true])
        XCTAssertTrue(
            preview.reasons.contains { $0.contains("the same best class on 66.7% of the cases is below 99.0%") })
    }

    func testEdgeCasesDoNotCountForIntegersUnlessThereIsNothingElse() async throws {
        var verification = try verification([#""precision": "fp16""#: #""precision": "int8""#])
        var outputs = answers(verification.reference)
        outputs[2] = [5, 0, -5]
        let passed = try await verification.run(on: ReplayEngine(outputs)).preview!
        XCTAssertTrue(passed.passed)
        XCTAssertEqual(passed.cases.map(\.counts), [true, true, false])
        verification = try self.verification(
            [#""precision": "fp16""#: #""precision": "int8""#], reference: tinyReference().replacing("view", "edge")
        )
        let failed = try await verification.run(on: ReplayEngine(outputs)).preview!
        XCTAssertEqual(failed.cases.map(\.counts), [true, true, true])
        XCTAssertFalse(failed.passed)
    }

    func testAnswersThatAreNotFiniteOrConstantFail() async throws {
        let verification = try verification()
        var outputs = answers(verification.reference)
        outputs[1][0] = .nan
        var preview = try await verification.run(on: ReplayEngine(outputs)).preview!
        XCTAssertEqual(preview.reasons[0], "scores are not finite")
        XCTAssertEqual(preview.worst.sqnrDB, -200)
        preview = try await verification.run(on: ReplayEngine([[4, 1, -2]])).preview!
        XCTAssertEqual(preview.reasons[0], "it answers every image with the same scores")
    }

    func testAFileThatWasRejectedFails() async throws {
        let verification = try verification([
            #""quantization": null"#: #""quantization": {"judgment": {"rejected": true, "reasons": ["SQNR 2 dB"]}}"#
        ])
        let preview = try await verification.run(on: ReplayEngine(answers(verification.reference))).preview!
        XCTAssertEqual(preview.reasons, ["it was rejected when it was converted: SQNR 2 dB"])
    }

    func testAnEngineThatFailsIsARunWithAnErrorAndNoCases() async throws {
        let verification = try verification(samples: 3)
        let failed = try await verification.run(on: ReplayEngine([]))
        XCTAssertEqual(failed.run.error, "the accelerator is busy")
        XCTAssertNil(failed.preview)
        XCTAssertEqual(failed.run.outputs, [])
        let short = try await verification.run(on: ReplayEngine([[1, 2]]))
        XCTAssertEqual(short.run.error, "it answers 'one' with 2 numbers, expected 3")
        XCTAssertEqual(short.run.outputs, [])
    }

    func testAnUnknownPrecisionIsRefused() async throws {
        let verification = try verification([#""precision": "fp16""#: #""precision": "fp8""#])
        do {
            _ = try await verification.run(on: ReplayEngine(answers(verification.reference)))
            XCTFail("no error")
        } catch { XCTAssertTrue(explain(error).contains("fp8")) }
    }

    func testLatenciesAreTakenAfterTheWarmUpAndProgressIsTold() async throws {
        let verification = try verification(samples: 3)
        let seen = Recorder()
        let result = try await verification.run(on: ReplayEngine(answers(verification.reference))) { seen.add($0) }
        XCTAssertEqual(result.run.latency?.warmUp, 2)
        XCTAssertEqual(result.run.latency?.inference.samples, [6, 7, 8])  // after 3 cases and 2 runs of warm-up
        XCTAssertEqual(result.run.latency?.withPreprocessing?.samples.count, 3)
        XCTAssertEqual(seen.all, (1...3).map { .cases(done: $0, of: 3) } + (1...3).map { .timing(done: $0, of: 3) })
    }

    func testACancelledTaskStops() async throws {
        let verification = try verification(samples: 1000)
        let outputs = answers(verification.reference)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await verification.run(on: ReplayEngine(outputs))
        }
        do {
            _ = try await task.value
            XCTFail("it went on")
        } catch { XCTAssertTrue(error is CancellationError) }
    }

    func testNoEngineOfAppleIsInABuildForOtherSystems() async throws {
        #if !canImport(CoreML)
        let artifact = try tinyArtifact(self)
        XCTAssertEqual(EngineChoice.all(for: artifact.manifest), [])
        do {
            _ = try await EngineChoice(runtime: "coreml", accelerator: .ane).open(artifact)
            XCTFail("no error")
        } catch {
            XCTAssertEqual(
                explain(error), "this build of the app does not run coreml files on Core ML, Neural Engine")
        }
        #endif
    }
}

private final class Recorder: @unchecked Sendable {
    private let lock = NSLock()
    private var seen: [Verification.Progress] = []

    func add(_ progress: Verification.Progress) { lock.withLock { seen.append(progress) } }
    var all: [Verification.Progress] { lock.withLock { seen } }
}

extension Data {
    /// All bytes of `old` replaced by as many others.
    fileprivate func replacing(_ old: String, _ new: String) -> Data {
        var result = self
        while let range = result.range(of: Data(old.utf8)) { result.replaceSubrange(range, with: Data(new.utf8)) }
        return result
    }
}
