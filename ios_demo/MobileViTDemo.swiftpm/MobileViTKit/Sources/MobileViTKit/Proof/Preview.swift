import Foundation

/// The app's own verdict on the answers of one engine, by the SDK's default thresholds.
public struct Preview: Sendable {
    public struct Case: Identifiable, Sendable {
        public let id: Int
        public let name: String
        public let sqnrDB: Double
        /// nil for features, and where it does not count.
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
    /// Share of the cases that count with the same best class; nil for features.
    public var top1Agreement: Double? {
        let same = cases.compactMap(\.sameBest)
        return same.isEmpty ? nil : Double(same.filter { $0 }.count) / Double(same.count)
    }

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
        let agreement = Agreement(expected: expected, actual: outputs, kind: manifest.kind, counted: counted)
        cases = reference.cases.enumerated().map { index, each in
            Case(
                id: index, name: each.name, sqnrDB: agreement.sqnrDB[index], sameBest: agreement.sameBest[index],
                counts: counted[index]
            )
        }
        self.threshold = threshold
        reasons = []
        var reasons: [String] = []
        if !outputs.allSatisfy({ $0.allSatisfy(\.isFinite) }) { reasons.append("scores are not finite") }
        if isConstant(outputs), !isConstant(expected) { reasons.append("it answers every image with the same scores") }
        reasons += manifest.rejections.map { "it was rejected when it was converted: \(oneLine($0))" }
        if worst.sqnrDB < threshold.sqnrDB {
            reasons.append(
                "SQNR \(oneDecimal(worst.sqnrDB)) dB on '\(worst.name)' is below \(Int(threshold.sqnrDB)) dB")
        }
        if let same = top1Agreement, same < threshold.top1Agreement {
            reasons.append(
                "the same best class on \(oneDecimal(100 * same))% of the cases is below \(oneDecimal(100 * threshold.top1Agreement))%"
            )
        }
        self.reasons = reasons
    }
}

private func isConstant(_ rows: [[Float]]) -> Bool { rows.allSatisfy { $0 == rows[0] } }

func oneDecimal(_ value: Double) -> String { String(format: "%.1f", value) }
