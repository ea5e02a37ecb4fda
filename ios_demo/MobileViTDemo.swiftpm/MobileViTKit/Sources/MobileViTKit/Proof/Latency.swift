/// Milliseconds of single runs, in the order they were taken.
public struct Timings: Equatable, Sendable {
    public let samples: [Double]

    static let maxSamples = 10_000

    /// Throws `KitError.report` unless there are 1 to 10,000 finite samples that are not negative.
    public init(_ samples: [Double]) throws {
        guard (1...Self.maxSamples).contains(samples.count), samples.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
            throw KitError.report("\(samples.count) latencies are not 1 to \(Self.maxSamples) finite numbers")
        }
        self.samples = samples
    }

    /// Nearest rank: the smallest sample that at least `percent` of them, 1 to 100, do not exceed.
    public func percentile(_ percent: Int) -> Double {
        let rank = (percent * samples.count + 99) / 100
        return samples.sorted()[max(1, min(samples.count, rank)) - 1]
    }

    public var p50: Double { percentile(50) }
    public var p90: Double { percentile(90) }
}

/// How long one entry of a file of several input sizes takes.
public struct EntryLatency: Equatable, Sendable {
    public let name: String
    public let inference: Timings
    public let withPreprocessing: Timings?
}

public struct Latency: Equatable, Sendable {
    /// Runs before the first sample.
    public let warmUp: Int
    /// Run and read-back.
    public let inference: Timings
    /// The same with resizing and filling the input; nil where it was not measured.
    public let withPreprocessing: Timings?
    /// Of a file of several input sizes, the times of each entry; the first are those above.
    public let entries: [EntryLatency]

    public init(warmUp: Int, inference: Timings, withPreprocessing: Timings?, entries: [EntryLatency] = []) {
        self.entries = entries
        self.warmUp = warmUp
        self.inference = inference
        self.withPreprocessing = withPreprocessing
    }
}

/// Milliseconds since `start`.
func milliseconds(since start: ContinuousClock.Instant) -> Double {
    let (seconds, attoseconds) = (ContinuousClock.now - start).components
    return Double(seconds) * 1e3 + Double(attoseconds) / 1e15
}
