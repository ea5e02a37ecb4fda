/// One direction of a separable resize with Pillow's arithmetic: the filter widens with the reduction, weights are
/// normalized over the pixels inside and rounded to 22 bits, sums are rounded and clamped to 8 bits.
struct ResamplingPass {
    /// For each output pixel: the first input pixel that it reads, and how many.
    let starts: [Int], counts: [Int]
    /// For each output pixel, `stride` weights, of which `counts` are used.
    let weights: [Int32]
    let stride: Int

    static let bits = 22
    /// What sums start from, so that the shift rounds.
    static let half = Int32(1 << (bits - 1))

    /// Output pixels `kept` of `outSize`; pixel centers lie at +0.5.
    init(inSize: Int, outSize: Int, kept: Range<Int>, filter: AppInput.Filter) {
        let scale = Double(inSize) / Double(outSize)
        let widening = max(scale, 1)
        let support = (filter == .bilinear ? 1 : 2) * widening
        stride = Int(support.rounded(.up)) * 2 + 1
        var starts: [Int] = [], counts: [Int] = [], weights: [Int32] = []
        var row = [Double](repeating: 0, count: stride)
        for index in kept {
            let center = (Double(index) + 0.5) * scale
            let first = max(0, Int(center - support + 0.5))  // towards zero, as Pillow's cast
            let count = min(inSize, Int(center + support + 0.5)) - first
            for tap in 0..<count {
                row[tap] = Self.weight((Double(tap + first) - center + 0.5) * (1 / widening), filter)
            }
            let total = row[..<count].reduce(0, +)
            starts.append(first)
            counts.append(count)
            for tap in 0..<stride {
                let fixed = tap < count ? row[tap] / total * Double(1 << Self.bits) : 0
                weights.append(Int32(fixed < 0 ? fixed - 0.5 : fixed + 0.5))  // towards zero
            }
        }
        (self.starts, self.counts, self.weights) = (starts, counts, weights)
    }

    private static func weight(_ x: Double, _ filter: AppInput.Filter) -> Double {
        let x = abs(x)
        switch filter {
        case .bilinear:
            return max(0, 1 - x)
        case .bicubic:
            let a = -0.5
            if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
            return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
        }
    }

    /// The input pixels that are read.
    var reads: Range<Int> {
        (starts.min() ?? 0)..<(zip(starts, counts).map { $0 + $1 }.max() ?? 0)
    }

    func withTables(_ body: (UnsafePointer<Int>, UnsafePointer<Int>, UnsafePointer<Int32>) -> Void) {
        starts.withUnsafeBufferPointer { starts in
            counts.withUnsafeBufferPointer { counts in
                weights.withUnsafeBufferPointer { body(starts.baseAddress!, counts.baseAddress!, $0.baseAddress!) }
            }
        }
    }

    @inline(__always)
    static func toByte(_ sum: Int32) -> UInt8 {
        UInt8(truncatingIfNeeded: max(0, min(255, sum >> Int32(bits))))
    }
}
