import Foundation
import MobileViTKit
import Observation

/// The live classification: an engine, the picture it works on, and the last answer.
@MainActor @Observable
public final class ClassifyModel {
    public struct Score: Identifiable, Equatable, Sendable {
        public let id: Int
        public let label: String
        public let probability: Double
        public let isBest: Bool
        /// Of an object: the color of its box.
        public var color: BoxColor?

        public var percent: String { String(format: "%.1f%%", 100 * probability) }
    }

    public struct Outcome: Equatable, Sendable {
        /// The five best classes, best first; of several outputs three of each; or the objects that a detector finds.
        public let scores: [Score]
        /// Boxes for the screen to lay over the picture; nil of all but detectors.
        public let found: FoundObjects?
        /// Such as "p50 4.1 ms · p90 4.4 ms of 60 pictures, 2.0 ms to prepare one"; while it warms up, that.
        public let times: String
        /// Such as "image_256x192, 192×256 pixels": the one of several entries that answered.
        public let answeredBy: String?
    }

    public enum State: Equatable, Sendable {
        case closed
        /// With the engine's name.
        case opening(String)
        case waiting
        case answered(Outcome)
        case failed(String)
    }

    public private(set) var state = State.closed
    /// Boxes to lay over the picture.
    public var found: FoundObjects? { if case .answered(let outcome) = state { outcome.found } else { nil } }
    /// The place of the entry that answered last.
    public private(set) var entry = 0
    /// Takes frames on the camera's thread while one is open.
    public let intake = FrameIntake()
    private var engine: (any Engine)?
    private var manifest: Manifest?
    private var times = RecentTimes()
    /// The photograph that is shown; nil while the camera is.
    private var photo: (pixels: [UInt8], layout: PixelLayout)?
    /// Openings so far: what an earlier one still answers is not shown.
    private var openings = 0

    public init() {}

    public func close() {
        openings += 1
        engine = nil
        entry = 0
        intake.close()
        state = .closed
    }

    func fail(_ reason: String) { state = .failed(reason) }

    /// Opens an engine, in place of the one before. Gives why it cannot, which `state` says as well.
    @discardableResult
    func open(_ artifact: ArtifactFolder, on choice: EngineChoice, from source: EngineSource) async -> String? {
        close()
        let opening = openings
        guard artifact.manifest.heads[0].kind != .features else {
            state = .failed("This network returns features, not classes. Its file can be verified.")
            return nil
        }
        state = .opening(choice.title)
        do {
            let opened = try await source.open(choice, artifact)
            guard opening == openings else { return nil }
            (engine, manifest, times) = (opened, artifact.manifest, RecentTimes())
            intake.open(artifact.manifest.entries, isPaused: photo != nil)
            state = .waiting
            await classifyPhoto()
            return nil
        } catch {
            guard opening == openings else { return nil }
            state = .failed(explain(error))
            return explain(error)
        }
    }

    /// Classifies what `intake` prepared, and then lets it take the next frame.
    public func classify(_ frame: PreparedFrame) async {
        defer { intake.done(frame) }
        guard let engine, intake.isCurrent(frame) else { return }
        let opening = openings
        do {
            let answer = try await engine.answer(frame.picture)
            guard opening == openings, intake.isCurrent(frame) else { return }
            try show(answer, of: frame)
        } catch {
            guard opening == openings else { return }
            state = .failed(explain(error))
        }
    }

    /// Classifies a photograph, of whose pixels `layout` says where they lie, now and on each engine that is opened while it
    /// is shown. Frames of the camera are not taken until `useCamera`.
    public func classify(_ pixels: [UInt8], _ layout: PixelLayout) async {
        photo = (pixels, layout)
        intake.pause()
        await classifyPhoto()
    }

    public func useCamera() {
        photo = nil
        intake.resume()
        if engine != nil { state = .waiting }
    }

    private func classifyPhoto() async {
        guard let photo else { return }
        do {
            guard let frame = try await intake.prepare(photo.pixels, photo.layout) else { return }
            await classify(frame)
        } catch {
            state = .failed(explain(error))
        }
    }

    private func show(_ answer: Answer, of frame: PreparedFrame) throws {
        guard let manifest else { return }
        let found = manifest.detects ? try FoundObjects(answer.outputs, manifest, frame) : nil
        let scores = try found?.scores ?? bestClasses(answer.outputs, manifest)
        times.add(inference: answer.milliseconds, preparation: frame.milliseconds)
        entry = frame.entry
        let answeredBy = manifest.entries[entry].title
        state = .answered(Outcome(scores: scores, found: found, times: times.summary, answeredBy: answeredBy))
    }

    private func bestClasses(_ answer: [Float], _ manifest: Manifest) throws -> [Score] {
        let expected = manifest.heads.compactMap(\.count).reduce(0, +)
        guard answer.count == expected else {
            throw KitError.engine("it answers with \(answer.count) numbers, expected \(expected)")
        }
        let several = manifest.heads.count > 1
        var start = 0
        return try manifest.heads.flatMap { head -> [Score] in
            let count = head.count ?? 0
            let best = topClasses(Array(answer[start..<start + count]), count: several ? 3 : 5)
            defer { start += count }
            guard !best.isEmpty else { throw KitError.engine("The scores are not finite numbers.") }
            return best.enumerated().map { rank, each in
                let label = className(each.index, head.labels)
                return Score(
                    id: start + each.index, label: several && head.name != "logits" ? "\(head.name): \(label)" : label,
                    probability: Double(each.probability), isBest: rank == 0)
            }
        }
    }
}

func className(_ index: Int, _ labels: [String]?) -> String {
    guard let labels, labels.indices.contains(index) else { return "class \(index)" }
    return labels[index]
}

/// How long the last pictures took.
struct RecentTimes {
    private var inference: [Double] = [], preparation: [Double] = []
    private var last = 0.0
    private var seen = 0

    /// Answers before times are kept: the first ones compile and fill caches.
    static let warmUp = 5
    /// Pictures that percentiles are of.
    static let window = 100

    mutating func add(inference: Double, preparation: Double) {
        last = inference
        seen += 1
        guard seen > Self.warmUp else { return }
        self.inference = (self.inference + [inference]).suffix(Self.window)
        self.preparation = (self.preparation + [preparation]).suffix(Self.window)
    }

    var summary: String {
        guard let inference = try? Timings(inference), let preparation = try? Timings(preparation) else {
            return "\(milliseconds(last)), warming up"
        }
        let pictures = inference.samples.count == 1 ? "1 picture" : "\(inference.samples.count) pictures"
        return "p50 \(milliseconds(inference.p50)) · p90 \(milliseconds(inference.p90)) of \(pictures), "
            + "\(milliseconds(preparation.p50)) to prepare one"
    }
}

func milliseconds(_ value: Double) -> String { String(format: "%.1f ms", value) }
