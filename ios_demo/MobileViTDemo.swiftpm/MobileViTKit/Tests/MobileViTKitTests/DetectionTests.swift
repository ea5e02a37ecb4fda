import XCTest

@testable import MobileViTDemoLogic
@testable import MobileViTKit

/// A detector of two queries and three classes, and a file with a task: from the manifest to what a screen shows.
final class DetectionTests: XCTestCase, @unchecked Sendable {
    private let detector = [
        #""config": {"num_classes": 3}"#: #""config": {"num_classes": 3, "num_queries": 2}"#,
        #""target": "coreml""#:
            #""outputs": [{"name": "logits", "shape": [1, 2, 4]}, {"name": "boxes", "shape": [1, 2, 4]}]"#,
    ]
    /// A dog, nearly certain, in the upper left quarter of what the model sees, and a fox at about 58%.
    private let answer: [Float] = [0, 9, 0, 0, -9, -9, 1, 0.66] + [0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.2, 0.2]

    func testObjectsAreThoseOfTheGoldenAnswers() throws {
        let url = repository.appendingPathComponent("tests/golden/detections.json")
        guard let data = try? Data(contentsOf: url) else {
            throw XCTSkip("the golden file is in the SDK's repository, not here")
        }
        let cases = try JSONNode(data, file: "detections.json").list()
        XCTAssertGreaterThan(cases.count, 4)
        for each in cases {
            let name = try each["name"].text(), resizing = try AppInput.Resizing(each["resizing"])
            let size = resizing.centerCrop ?? resizing.size
            let numbers = { (key: String) in try each[key].list().map { try $0.list().map { Float(try $0.number()) } } }
            let (logits, boxes) = (try numbers("logits"), try numbers("boxes"))
            let manifest = try tinyManifest([
                #""config": {"num_classes": 3}"#:
                    #""config": {"num_classes": \#(logits[0].count - 1), "num_queries": \#(logits.count)}"#,
                #""labels": ["cat", "dog", "fox"]"#: #""labels": null"#,
                #""target": "coreml""#:
                    #""outputs": [{"name": "logits", "shape": [1, \#(logits.count), \#(logits[0].count)]}, {"name": "boxes", "shape": [1, \#(logits.count), 4]}]"#,
                "[1, 3, 4, 6]": "[1, 3, \(size[0]), \(size[1])]",
                #""mode": "shorter side", "size": [5]"#: #""mode": "\#(resizing.mode.rawValue)", "size": \#(resizing.size)"#,
                #""center_crop": [4, 6]"#: #""center_crop": \#(resizing.centerCrop.map { "\($0)" } ?? "null")"#,
            ])
            let picture = try each["picture"].list().map { try $0.integer() }
            let found = try Detection.all(
                in: (logits + boxes).flatMap { $0 }, of: manifest, width: picture[0], height: picture[1],
                least: Float(try each["least"].number()))
            let expected = try each["found"].list()
            XCTAssertEqual(found.count, expected.count, name)
            for (own, theirs) in zip(found, expected) {
                XCTAssertEqual(own.index, try theirs["index"].integer(), name)
                let edges = [Double(own.box.minX), Double(own.box.minY), Double(own.box.maxX), Double(own.box.maxY)]
                for (value, key) in zip(edges + [Double(own.probability)], ["left", "top", "right", "bottom", "share"]) {
                    XCTAssertEqual(value, try theirs[key].number(), accuracy: 1e-6, "\(name): \(key)")
                }
            }
        }
    }

    func testAnArtifactTellsThatItDetects() throws {
        let manifest = try tinyManifest(detector)
        XCTAssertTrue(manifest.detects)
        XCTAssertEqual(manifest.heads.map(\.name), ["logits", "boxes"])
        XCTAssertEqual(manifest.heads.map(\.count), [8, 8])
        XCTAssertFalse(try tinyManifest().detects)
    }

    func testADetectorThatContradictsItselfIsRefused() {
        for (old, new, words) in [
            (#""name": "boxes""#, #""name": "corners""#, "without boxes of shape [1, 2, 4]"),
            (#""boxes", "shape": [1, 2, 4]"#, #""boxes", "shape": [1, 3, 4]"#, "without boxes"),
            (#""logits", "shape": [1, 2, 4]"#, #""logits", "shape": [1, 2, 3]"#, "without logits"),
            (#""num_queries": 2"#, #""num_queries": 0"#, "num_queries must be"),
            (#""num_queries": 2"#, #""num_queries": 9223372036854775807"#, "num_queries must be"),
            (#"["cat", "dog", "fox"]"#, #"["cat", "dog"]"#, "2 labels for 3 classes"),
            (#""labels": ["#, #""features": "map", "labels": ["#, "returns no features"),
        ] {
            let text = manifestText(detector).replacingOccurrences(of: old, with: new)
            assertThrowsKitError(try Manifest(data: Data(text.utf8)), words)
        }
        let text = manifestText([#""config": {"num_classes": 3}"#: #""config": {"num_classes": 3, "num_queries": 2}"#])
        assertThrowsKitError(try Manifest(data: Data(text.utf8)), "outputs")
    }

    func testAnswersThatAreNoDetectorsAreErrors() throws {
        let manifest = try tinyManifest(detector)
        for place in [0, 15] {
            var broken = answer
            broken[place] = .nan
            assertThrowsKitError(try Detection.all(in: broken, of: manifest, width: 9, height: 6), "not a number")
        }
        assertThrowsKitError(try Detection.all(in: [1, 2], of: manifest, width: 9, height: 6), "2 numbers")
        assertThrowsKitError(try Detection.all(in: answer, of: try tinyManifest(), width: 9, height: 6), "detector")
    }

    /// Of `tinyReference`, the logits of three cases as they are, with two further outputs.
    private func reference(_ names: [(name: String, shape: String, values: [Float])]) -> Data {
        var header = #""images":{"dtype":"U8","shape":[2,3,4,6],"data_offsets":[0,144]}"#
        var body = (0..<144).map { UInt8($0) }
        for each in names {
            let start = body.count
            body += [UInt8](Data(base64Encoded: base64(each.values))!)
            header += #","\#(each.name)":{"dtype":"F32","shape":\#(each.shape),"data_offsets":[\#(start),\#(body.count)]}"#
        }
        let cases = #"[{\"name\": \"one\"}, {\"name\": \"two\"}]"#
        return safetensors(#"{"__metadata__":{"cases":"\#(cases)"},\#(header)}"#, body)
    }

    func testBothOutputsAreProvenAndStandInTheReport() async throws {
        let other = Array(answer[0..<8].reversed()) + Array(answer[8...].reversed())
        let data = reference([
            ("logits", "[2,2,4]", Array(answer[0..<8]) + Array(other[0..<8])),
            ("boxes", "[2,2,4]", Array(answer[8...]) + Array(other[8...])),
        ])
        let artifact = try tinyArtifact(self, detector, reference: data)
        let verification = Verification(artifact: artifact, reference: try artifact.reference(), samples: 0)
        let right = try await verification.run(on: ReplayEngine([answer, other]))
        XCTAssertEqual(right.preview?.reasons, [])
        XCTAssertEqual(right.preview?.sameBest?.of, right.preview?.sameBest?.count)
        XCTAssertEqual(right.preview?.detects, true)
        let document = String(
            decoding: try DeviceReport(
                appVersion: "1", artifact: artifact, reference: try artifact.reference(), runs: [right.run]
            ).data(), as: UTF8.self)
        XCTAssertTrue(document.contains(#""outputs":{"boxes":"\#(base64(Array(answer[8...])))","logits":"#), document)
        var moved = answer
        moved[8] += 0.2
        let wrong = try await verification.run(on: ReplayEngine([moved, other])).preview!
        XCTAssertTrue(
            wrong.reasons.contains("boxes: a box is off by 1.2 pixels, more than 0.05"), "\(wrong.reasons)")
        var confused = answer
        confused[0] = 20
        let reasons = try await verification.run(on: ReplayEngine([confused, other])).preview!.reasons
        XCTAssertTrue(
            reasons.contains { $0.hasPrefix("logits: the same best class on ") && $0.contains("of the objects") },
            "\(reasons)")
    }

    func testEveryTaskIsProvenAndTheReasonNamesIt() async throws {
        let tasks = [#""family": "mobilevit","#: #""tasks": [{"name": "pets", "num_classes": 2, "labels": ["a", "b"]}],"#]
        let data = reference([
            ("logits", "[2,3]", [4, 1, -2, 0, 3, 1]), ("pets", "[2,2]", [3, 0, 0, 5]),
        ])
        let artifact = try tinyArtifact(self, tasks, reference: data)
        let verification = Verification(artifact: artifact, reference: try artifact.reference(), samples: 0)
        let answers: [[Float]] = [[4, 1, -2, 3, 0], [0, 3, 1, 0, 5]]
        let right = try await verification.run(on: ReplayEngine(answers)).preview!
        XCTAssertEqual(right.reasons, [])
        let wrong = try await verification.run(on: ReplayEngine([[4, 1, -2, 0, 3], [0, 3, 1, 5, 0]])).preview!
        XCTAssertFalse(wrong.reasons.isEmpty)
        XCTAssertTrue(wrong.reasons.allSatisfy { $0.hasPrefix("pets: ") }, "\(wrong.reasons)")
        for (old, new, words) in [
            (#"["a", "b"]"#, #"["a"]"#, "1 labels for the 2 classes of pets"),
            (#""name": "pets""#, #""name": "logits""#, "two outputs of one name"),
        ] {
            let text = manifestText(tasks).replacingOccurrences(of: old, with: new)
            assertThrowsKitError(try Manifest(data: Data(text.utf8)), words)
        }
    }

    @MainActor private func outcome(_ changes: [String: String], _ answer: [Float]) async throws -> ClassifyModel.State {
        let model = ClassifyModel()
        let engine = ReplayEngine([answer])
        let choice = EngineChoice(runtime: "coreml", accelerator: .all)
        let source = EngineSource { _ in [choice] } missing: { _ in nil } open: { _, _ in engine }
        await model.open(try tinyArtifact(self, changes), on: choice, from: source)
        let pixels = [UInt8](repeating: 9, count: 3 * 20 * 10)
        await model.classify(pixels, try PixelLayout(width: 20, height: 10, format: .rgb))
        return model.state
    }

    @MainActor func testWhatIsFoundIsShownOverThePictureAndInTheList() async throws {
        guard case .answered(let shown) = try await outcome(detector, answer) else { return XCTFail("no answer") }
        XCTAssertEqual(shown.scores.map(\.label), ["dog"])
        XCTAssertEqual(shown.scores.first?.color, BoxColor(of: 1))
        let found = try XCTUnwrap(shown.found), object = try XCTUnwrap(found.objects.first)
        XCTAssertEqual(object.caption, "dog 100%")
        // 20x10 becomes 10x5, of which the crop shows 6x4 from (2, 0) on; the object is its upper left quarter.
        XCTAssertEqual(object.box, CGRect(x: 0.2, y: 0, width: 0.3, height: 0.4))
        let whole = found.frame(of: object, in: CGSize(width: 100, height: 100), fills: false)
        XCTAssertEqual(whole, CGRect(x: 20, y: 25, width: 30, height: 20))
        let cut = found.frame(of: object, in: CGSize(width: 100, height: 100), fills: true)
        XCTAssertEqual(cut, CGRect(x: -10, y: 0, width: 60, height: 40))
    }

    @MainActor func testAnswersThatAreNotNumbersAreALine() async throws {
        var broken = answer
        broken[3] = .infinity
        let state = try await outcome(detector, broken)
        XCTAssertEqual(state, .failed("The answer holds what is not a number: verify the file."))
    }

    @MainActor func testEachTaskHasItsOwnClasses() async throws {
        let tasks = [#""family": "mobilevit","#: #""tasks": [{"name": "pets", "num_classes": 2, "labels": ["a", "b"]}],"#]
        guard case .answered(let shown) = try await outcome(tasks, [0, 2, 1, 0, 5]) else { return XCTFail("no answer") }
        XCTAssertEqual(shown.scores.map(\.label), ["dog", "fox", "cat", "pets: b", "pets: a"])
        XCTAssertEqual(Set(shown.scores.map(\.id)).count, 5)
        XCTAssertNil(shown.found)
        let short = try await outcome(tasks, [0, 2, 1])
        XCTAssertEqual(short, .failed("it answers with 3 numbers, expected 5"))
    }
}
