/// Runs all reference cases on an engine, then times it.
public struct Verification: Sendable {
    public enum Progress: Equatable, Sendable {
        case cases(done: Int, of: Int)
        case timing(done: Int, of: Int)
    }

    public struct Result: Sendable {
        /// For the device report.
        public let run: DeviceReport.Run
        /// The app's own verdict; nil where the engine failed, which `run.error` says.
        public let preview: Preview?
    }

    public let artifact: ArtifactFolder
    public let reference: Reference
    /// Runs before the first sample: caches, clocks and a GPU's kernels settle.
    public let warmUp: Int
    /// Timed runs; none are taken for 0.
    public let samples: Int
    /// The size of the camera frames whose preparation is timed with inference.
    static let frame = (width: 1280, height: 720)

    public init(artifact: ArtifactFolder, reference: Reference, warmUp: Int = 5, samples: Int = 50) {
        self.artifact = artifact
        self.reference = reference
        self.warmUp = max(0, warmUp)
        self.samples = max(0, min(Timings.maxSamples, samples))
    }

    /// An engine that fails, or answers in another shape, is a run with an error, never a part of one.
    ///
    /// Throws `CancellationError` when the task is cancelled, and `KitError.artifact` for an unknown precision.
    public func run(on engine: any Engine, progress: @Sendable (Progress) -> Void = { _ in }) async throws -> Result {
        do {
            let outputs = try await answers(of: engine, progress)
            let latency = try await timings(of: engine, progress)
            let preview = try Preview(reference, outputs: outputs, manifest: artifact.manifest)
            let run = DeviceReport.Run(
                engine: engine.facts, outputs: outputs, latency: latency,
                peakMemoryBytes: DeviceFacts.peakMemoryBytes, thermalState: DeviceFacts.thermalState
            )
            return Result(run: run, preview: preview)
        } catch let error as KitError {
            if case .artifact = error { throw error }
            return Result(run: DeviceReport.Run(engine: engine.facts, outputs: [], error: error.message), preview: nil)
        } catch let error as CancellationError {
            throw error
        } catch {
            return Result(run: DeviceReport.Run(engine: engine.facts, outputs: [], error: explain(error)), preview: nil)
        }
    }

    private func answers(of engine: any Engine, _ progress: @Sendable (Progress) -> Void) async throws -> [[Float]] {
        var outputs: [[Float]] = []
        for (index, each) in reference.cases.enumerated() {
            try Task.checkCancellation()
            let answer = try await engine.answer(reference.picture(index))
            guard answer.outputs.count == reference.answerCount else {
                throw KitError.engine(
                    "it answers '\(each.name)' with \(answer.outputs.count) numbers, expected \(reference.answerCount)")
            }
            outputs.append(answer.outputs)
            progress(.cases(done: index + 1, of: reference.cases.count))
        }
        return outputs
    }

    private func timings(of engine: any Engine, _ progress: @Sendable (Progress) -> Void) async throws -> Latency? {
        guard samples > 0 else { return nil }
        let entries = artifact.manifest.entries
        var found: [EntryLatency] = []
        for (place, entry) in entries.enumerated() {
            let (inference, whole) = try await timings(of: engine, entry.input) {
                progress(.timing(done: place * samples + $0, of: entries.count * samples))
            }
            found.append(EntryLatency(name: entry.name ?? "", inference: inference, withPreprocessing: whole))
        }
        return Latency(
            warmUp: warmUp, inference: found[0].inference, withPreprocessing: found[0].withPreprocessing,
            entries: entries.count > 1 ? found : [])
    }

    private func timings(
        of engine: any Engine, _ input: AppInput, _ progress: (Int) -> Void
    ) async throws -> (inference: Timings, whole: Timings) {
        let frame = Picture.gradient(width: Self.frame.width, height: Self.frame.height)
        let preprocessor = Preprocessor(input)
        var inference: [Double] = [], whole: [Double] = []
        for index in 0..<warmUp + samples {
            try Task.checkCancellation()
            let start = ContinuousClock.now
            let picture = try preprocessor.prepare(frame)
            let answer = try await engine.answer(picture)
            let all = milliseconds(since: start)
            if index >= warmUp {
                inference.append(answer.milliseconds)
                whole.append(all)
                progress(index + 1 - warmUp)
            }
        }
        return (try Timings(inference), try Timings(whole))
    }
}

extension Picture {
    /// A picture to time with.
    static func gradient(width: Int, height: Int) -> Picture {
        var picture = Picture(width: width, height: height)
        for index in picture.pixels.indices {
            picture.pixels[index] = UInt8(truncatingIfNeeded: index / 3 / 8 &+ index % 3 * 64)
        }
        return picture
    }
}
