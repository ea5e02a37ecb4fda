import Foundation

/// The app's own verdict on the answers of one engine, by the SDK's default thresholds.
public struct Preview: Sendable {
    public struct Case: Identifiable, Sendable {
        public let id: Int
        public let name: String
        public let sqnrDB: Double
        /// Of all outputs with classes; nil where there are none, and where it does not count.
        public let sameBest: Bool?
        /// Whether the verdict reads it.
        public let counts: Bool
    }

    public let cases: [Case]
    public let threshold: Threshold
    /// Why it failed; empty where it passed.
    public private(set) var reasons: [String]

    public var passed: Bool { reasons.isEmpty }
    /// The case with the lowest SQNR of those that count.
    public var worst: Case { cases.filter(\.counts).min { $0.sqnrDB < $1.sqnrDB }! }
    /// How many have the same best class, and of how many: cases that count, or a detector's objects; of several outputs
    /// the fewest. nil for features.
    public private(set) var sameBest: (count: Int, of: Int)?
    /// The share of those with the same best class; nil for features.
    public var top1Agreement: Double? { sameBest.map { Double($0.count) / Double($0.of) } }
    /// Whether `sameBest` counts objects.
    public let detects: Bool

    /// Judges `outputs`, one answer for each case. Throws `KitError.artifact` for a precision without a threshold, and
    /// `KitError.engine` for answers of another shape.
    public init(_ reference: Reference, outputs: [[Float]], manifest: Manifest) throws {
        guard let threshold = Threshold.byPrecision[manifest.precision] else {
            throw KitError.artifact("the precision \"\(manifest.precision)\" is not known to this app: update the app")
        }
        let expected = reference.cases.indices.map(reference.answer)
        guard outputs.count == expected.count, outputs.allSatisfy({ $0.count == reference.answerCount }) else {
            throw KitError.engine("answers do not have the shape of the reference's")
        }
        let all = threshold.countsEdgeCases || reference.cases.allSatisfy { $0.role == .edge }
        let counted = reference.cases.map { all || $0.role != .edge }
        let judged = manifest.heads.indices.map { place in
            Judged(
                manifest.heads[place], expected: expected.map { reference.split($0)[place] },
                actual: outputs.map { reference.split($0)[place] }, cases: reference.cases.map(\.name),
                counted: counted, threshold: threshold,
                inputs: reference.cases.map { manifest.entries[$0.entry].input })
        }
        cases = reference.cases.enumerated().map { index, each in
            let same = judged.compactMap { $0.agreement.sameBest[index] }
            return Case(
                id: index, name: each.name, sqnrDB: judged.map { $0.agreement.sqnrDB[index] }.min()!,
                sameBest: same.isEmpty ? nil : !same.contains(false), counts: counted[index]
            )
        }
        self.threshold = threshold
        detects = manifest.detects
        sameBest = judged.compactMap(\.sameBest).min { Double($0.count) / Double($0.of) < Double($1.count) / Double($1.of) }
        let rejections = manifest.rejections.map { "it was rejected when it was converted: \(oneLine($0))" }
        let several = judged.count > 1
        let missed = zip(manifest.heads, judged).flatMap { head, each in
            each.reasons.map { several ? "\(head.name): \($0)" : $0 }
        }
        reasons = rejections + missed
    }
}

/// What one output misses.
private struct Judged {
    let agreement: Agreement
    let sameBest: (count: Int, of: Int)?
    let reasons: [String]

    init(
        _ head: Head, expected: [[Float]], actual: [[Float]], cases: [String], counted: [Bool], threshold: Threshold,
        inputs: [AppInput]
    ) {
        let agreement = Agreement(
            expected: expected, actual: actual, kind: head.kind, counted: counted, columns: head.columns ?? 1)
        self.agreement = agreement
        let same = agreement.sameBest.compactMap { $0 } + agreement.sameObjects
        let sameBest = same.isEmpty ? nil : (count: same.filter { $0 }.count, of: same.count)
        self.sameBest = sameBest
        var reasons: [String] = []
        if !actual.allSatisfy({ $0.allSatisfy(\.isFinite) }) { reasons.append("scores are not finite") }
        if isConstant(actual), !isConstant(expected) { reasons.append("it answers every image with the same scores") }
        let kept = cases.indices.filter { counted[$0] }
        if head.kind == .boxes {
            // What the SQNR allows for the longer side, of float files a pixel of 640 at most where float16 has its own
            // SQNR, and a little anywhere.
            let share = pow(10, -threshold.sqnrDB / 20), pixel = pow(10, (40 - threshold.sqnrDB) / 20) / 640
            let side = threshold.countsEdgeCases ? min(share, pixel) : share
            let apart = kept.map { index in
                let input = inputs[index]
                return (
                    farthest: pixels(expected[index], actual[index], input),
                    allowed: max(0.05, side * Double(max(input.height, input.width)))
                )
            }
            let (farthest, allowed) = apart.max { $0.farthest / $0.allowed < $1.farthest / $1.allowed }!
            if farthest > allowed {
                reasons.append("a box is off by \(threeDigits(farthest)) pixels, more than \(threeDigits(allowed))")
            }
        }
        let worst = kept.min { agreement.sqnrDB[$0] < agreement.sqnrDB[$1] }!
        if agreement.sqnrDB[worst] < threshold.sqnrDB {
            reasons.append(
                "SQNR \(oneDecimal(agreement.sqnrDB[worst])) dB on '\(cases[worst])' is below \(Int(threshold.sqnrDB)) dB")
        }
        if let sameBest, case let share = Double(sameBest.count) / Double(sameBest.of), share < threshold.top1Agreement {
            let what = head.kind == .queryScores ? "objects" : "cases"
            reasons.append(
                "the same best class on \(oneDecimal(100 * share))% of the \(what) is below \(oneDecimal(100 * threshold.top1Agreement))%"
            )
        }
        self.reasons = reasons
    }
}

/// The largest difference of a box's four numbers, in pixels of the input.
private func pixels(_ expected: [Float], _ actual: [Float], _ input: AppInput) -> Double {
    expected.indices.map { index in
        let apart = abs(Double(actual[index]) - Double(expected[index]))
        return apart.isFinite ? apart * Double(index % 2 == 0 ? input.width : input.height) : .greatestFiniteMagnitude
    }.max()!
}

private func threeDigits(_ value: Double) -> String { String(format: "%.3g", value) }

private func isConstant(_ rows: [[Float]]) -> Bool { rows.allSatisfy { $0 == rows[0] } }

func oneDecimal(_ value: Double) -> String { String(format: "%.1f", value) }
