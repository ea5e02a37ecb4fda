import Foundation
import MobileViTKit
import Observation

/// The verification of an artifact on some engines, one after the other, and the report of it.
@MainActor @Observable
public final class VerifyModel {
    public struct Progress: Equatable, Sendable {
        public let engine: String
        /// Of everything.
        public let fraction: Double
        /// Such as "Case 12 of 27".
        public let step: String
    }

    public struct Row: Identifiable, Equatable, Sendable {
        public let id: String
        public let engine: String
        public let passed: Bool
        public let summary: String
        public let details: [String]
    }

    public struct Outcome: Equatable, Sendable {
        public let rows: [Row]
        /// The device report as a file, to share.
        public let report: URL
    }

    public enum State: Equatable, Sendable {
        case idle, running(Progress), finished(Outcome), failed(String), cancelled
    }

    public private(set) var state = State.idle
    private var task: Task<Void, Never>?
    /// Verifications so far: progress of an earlier one is not shown.
    private var starts = 0
    private let source: EngineSource
    private let reports: URL
    private let appVersion: String
    private let samples: Int

    /// - Parameters:
    ///   - reports: a folder for the reports; made when the first one is written.
    ///   - samples: timed runs of each engine.
    public init(source: EngineSource = .kit, reports: URL, appVersion: String, samples: Int = 50) {
        self.source = source
        self.reports = reports
        self.appVersion = appVersion
        self.samples = samples
    }

    public var isRunning: Bool { if case .running = state { true } else { false } }

    /// Stops a verification in course, and forgets the last one.
    public func reset() {
        cancel()
        state = .idle
    }

    public func cancel() {
        task?.cancel()
        task = nil
        starts += 1
        if isRunning { state = .cancelled }
    }

    /// Runs all reference cases on the engines in order. An engine that cannot run is a row of its own.
    @discardableResult
    func start(_ artifact: ArtifactFolder, on choices: [EngineChoice]) -> Task<Void, Never> {
        cancel()
        let start = starts
        state = .running(Progress(engine: artifact.name, fraction: 0, step: "Reading the reference vectors"))
        let running = Task {
            do {
                let outcome = try await verify(artifact, choices, start)
                if start == starts { state = .finished(outcome) }
            } catch is CancellationError {
                if start == starts { state = .cancelled }
            } catch {
                if start == starts { state = .failed(explain(error)) }
            }
        }
        task = running
        return running
    }

    private func verify(_ artifact: ArtifactFolder, _ choices: [EngineChoice], _ start: Int) async throws -> Outcome {
        let verification = Verification(
            artifact: artifact, reference: try await Self.reference(artifact), samples: samples)
        var runs: [DeviceReport.Run] = [], rows: [Row] = []
        for (index, choice) in choices.enumerated() {
            try Task.checkCancellation()
            let show: @Sendable (String, Double) -> Void = { [weak self] step, share in
                let all = (Double(index) + share) / Double(choices.count)
                Task { @MainActor in self?.advance(Progress(engine: choice.title, fraction: all, step: step), of: start)
                }
            }
            show("Opening the model", 0)
            let result = try await Self.run(verification, choice, source, show)
            runs.append(result.run)
            rows.append(Row(choice, result, cases: verification.reference.cases.count))
        }
        let report = DeviceReport(
            appVersion: appVersion, artifact: artifact, reference: verification.reference, runs: runs
        )
        return Outcome(rows: rows, report: try await Self.write(report, into: reports))
    }

    private nonisolated static func reference(_ artifact: ArtifactFolder) async throws -> Reference {
        try artifact.reference()
    }

    /// Throws for what is wrong with the artifact; what is wrong with the engine is the run's error.
    private nonisolated static func run(
        _ verification: Verification, _ choice: EngineChoice, _ source: EngineSource,
        _ show: @escaping @Sendable (String, Double) -> Void
    ) async throws -> (run: DeviceReport.Run, preview: Preview?) {
        let engine: any Engine
        do {
            engine = try await source.open(choice, verification.artifact)
        } catch let error as KitError {
            guard case .engine(let reason) = error else { throw error }
            let facts = EngineFacts(runtime: choice.runtime, accelerator: choice.accelerator)
            return (DeviceReport.Run(engine: facts, outputs: [], error: reason), nil)
        }
        let result = try await verification.run(on: engine) { progress in
            switch progress {
            case .cases(let done, let count): show("Case \(done) of \(count)", 0.5 * Double(done) / Double(count))
            case .timing(let done, let count):
                show("Timing \(done) of \(count)", 0.5 + 0.5 * Double(done) / Double(count))
            }
        }
        return (result.run, result.preview)
    }

    private nonisolated static func write(_ report: DeviceReport, into folder: URL) async throws -> URL {
        let data = try report.data()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appendingPathComponent(report.fileName)
        try data.write(to: file, options: .atomic)
        return file
    }

    /// Steps reach the main actor in any order: one that is behind is not shown.
    private func advance(_ progress: Progress, of start: Int) {
        guard start == starts, case .running(let shown) = state, progress.fraction >= shown.fraction else { return }
        state = .running(progress)
    }
}

extension VerifyModel.Row {
    init(_ choice: EngineChoice, _ result: (run: DeviceReport.Run, preview: Preview?), cases: Int) {
        id = choice.id
        engine = choice.title
        passed = result.preview?.passed ?? false
        guard let preview = result.preview else {
            summary = "Could not run"
            details = [result.run.error ?? "no answers"]
            return
        }
        summary = preview.passed ? "The same answers as PyTorch" : "Other answers than PyTorch"
        var lines = preview.reasons
        let threshold = Int(preview.threshold.sqnrDB)
        lines.append(
            String(format: "worst case %.1f dB of at least %d dB: ", preview.worst.sqnrDB, threshold)
                + preview.worst.name)
        if let same = preview.sameBest {
            let total = preview.detects ? "\(same.of) objects" : "\(cases) cases"
            lines.append("the same best class in \(same.count) of \(total)")
        }
        if let latency = result.run.latency {
            lines.append("p50 \(milliseconds(latency.inference.p50)) · p90 \(milliseconds(latency.inference.p90))")
            if let whole = latency.withPreprocessing {
                lines.append("with resizing p50 \(milliseconds(whole.p50)) · p90 \(milliseconds(whole.p90))")
            }
            for entry in latency.entries {
                let times = entry.inference
                lines.append("\(entry.name) p50 \(milliseconds(times.p50)) · p90 \(milliseconds(times.p90))")
            }
        }
        details = lines
    }
}
