import Foundation

/// How near answers are to PyTorch's, measured as the SDK measures it; the arithmetic is float64.
///
/// The SQNR of a case is the lower of two: that of all scores as they are, and that of the scores without what all classes
/// have in common, in which the signal is at least the median over the cases. Of one or two scores it is what differs
/// between the cases. Features and boxes have the first alone. A detector's scores have both, the second query by query.
public struct Agreement: Equatable, Sendable {
    /// Of each case, in dB within ±200; -200 where an answer is not finite.
    public let sqnrDB: [Double]
    /// Whether each case that counts has the same best class, or one whose reference score is as near as the error (a
    /// tie). Of one score, the same sign. nil for the other cases, and for all but scores.
    public let sameBest: [Bool?]
    /// The same of each query of a detector that finds an object in the reference, in the cases that count.
    public let sameObjects: [Bool]

    static let ceiling = 200.0

    /// `expected` and `actual` are [cases][numbers], of equal shapes, with at least one case and number; `counted` is a
    /// flag for each case; `columns`, of a detector's scores, are the classes of a query with "no object".
    public init(expected: [[Float]], actual: [[Float]], kind: Head.Kind, counted: [Bool], columns: Int = 1) {
        precondition(expected.count == actual.count && zip(expected, actual).allSatisfy { $0.count == $1.count })
        let reference = expected.map { $0.map(Double.init) }, answers = actual.map { $0.map(Double.init) }
        let noise = zip(answers, reference).map { zip($0, $1).map { $0 - $1 } }
        let binary = reference[0].count <= 2
        var whole = reference.map(energy)
        let errors = noise.map(energy)
        if kind == .scores, binary {
            let mean = whole.reduce(0, +) / Double(whole.count)
            whole = whole.map { max($0, mean) }
        }
        var ratios = zip(whole, errors).map(Self.decibels)
        if kind == .scores {
            let deciding = zip(Self.decidingEnergies(reference), noise.map { energy(Self.deciding($0)) }).map(
                Self.decibels)
            ratios = zip(ratios, deciding).map(min)
        }
        if kind == .queryScores {
            func deciding(_ row: [Double]) -> Double {
                Self.queries(row, columns).reduce(0) { $0 + energy(Self.deciding($1)) }
            }
            let own = reference.map(deciding)
            let typical = median(own)
            let byQuery = zip(own.map { max($0, typical) }, noise.map(deciding)).map(Self.decibels)
            ratios = zip(ratios, byQuery).map(min)
        }
        sqnrDB = ratios
        sameObjects =
            kind == .queryScores
            ? Self.sameObjects(reference.indices.filter { counted[$0] }.map { (reference[$0], answers[$0]) }, columns)
            : []
        let kept = reference.indices.filter { counted[$0] && kind == .scores }
        let found = kept.isEmpty ? [] : Self.sameBest(kept.map { reference[$0] }, kept.map { answers[$0] })
        let byCase = Dictionary(uniqueKeysWithValues: zip(kept, found))
        sameBest = reference.indices.map { byCase[$0] }
    }

    private static func queries(_ row: [Double], _ columns: Int) -> [[Double]] {
        stride(from: 0, to: row.count, by: columns).map { Array(row[$0..<$0 + columns]) }
    }

    private static func sameObjects(_ rows: [(expected: [Double], actual: [Double])], _ columns: Int) -> [Bool] {
        let all = rows.flatMap { zip(queries($0.expected, columns), queries($0.actual, columns)) }
        let found = all.filter { $0.0.firstIndex(of: $0.0.max()!) != columns - 1 }
        return found.isEmpty ? [] : sameBest(found.map(\.0), found.map(\.1))
    }

    /// 10 log10 of a ratio of energies, within the ceiling; noise that is not finite gives the lowest.
    private static func decibels(_ signal: Double, _ noise: Double) -> Double {
        guard noise.isFinite else { return -ceiling }
        if noise == 0 { return ceiling }
        if signal == 0 { return -ceiling }
        return max(-ceiling, min(ceiling, 10 * log10(signal / noise)))
    }

    /// Scores without what the classes have in common. One score stands as it is.
    private static func deciding(_ scores: [Double]) -> [Double] {
        guard scores.count > 1 else { return scores }
        let mean = scores.reduce(0, +) / Double(scores.count)
        return scores.map { $0 - mean }
    }

    private static func decidingEnergies(_ scores: [[Double]]) -> [Double] {
        var rows = scores.map(deciding)
        let spread = scores[0].count <= 2 && scores.count > 1
        if spread {
            for column in rows[0].indices {
                let mean = rows.reduce(0) { $0 + $1[column] } / Double(rows.count)
                for row in rows.indices { rows[row][column] -= mean }
            }
        }
        let own = rows.map(energy)
        let typical = spread ? own.reduce(0, +) / Double(own.count) : median(own)
        return own.map { max($0, typical) }
    }

    /// In a tie the reference's scores of the two classes differ by at most three times the error, the root mean square
    /// over the classes in the median case, nor by more than an error of 40 dB.
    private static func sameBest(_ expected: [[Double]], _ actual: [[Double]]) -> [Bool] {
        let finite = actual.map { $0.allSatisfy(\.isFinite) }
        let classes = Double(expected[0].count)
        let reference = zip(expected, finite).map { $1 ? $0 : $0.map { _ in 0 } }
        let errors = expected.indices.map { index in
            finite[index]
                ? (energy(deciding(zip(actual[index], expected[index]).map { $0 - $1 })) / classes).squareRoot()
                : .infinity
        }
        let allowed = decidingEnergies(reference).map { 0.01 * ($0 / classes).squareRoot() }
        let typical = 3 * median(errors)
        return expected.indices.map { index in
            guard finite[index] else { return false }
            var width = min(typical, allowed[index])
            let scores = expected[index], answer = actual[index]
            if scores.count == 1 {
                return (scores[0] > 0) == (answer[0] > 0) || abs(scores[0]) <= width
            }
            width *= 2.0.squareRoot()  // of the difference of two scores
            let best = answer.indices.reduce(0) { answer[$1] > answer[$0] ? $1 : $0 }
            return scores.max()! - scores[best] <= width
        }
    }
}

private func energy(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 } }

/// The median, without overflow in the mean of two of the largest numbers.
private func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    return sorted[(sorted.count - 1) / 2] / 2 + sorted[sorted.count / 2] / 2
}
