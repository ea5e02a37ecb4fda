import Foundation

/// A class and its probability.
public struct Ranked: Equatable, Sendable {
    public let index: Int
    public let probability: Float
}

/// Probabilities of scores [classes]; in float64, and without overflow for large scores.
public func softmax(_ scores: [Float]) -> [Float] {
    guard let highest = scores.max(), highest.isFinite else { return scores.map { _ in .nan } }
    let powers = scores.map { exp(Double($0) - Double(highest)) }
    let total = powers.reduce(0, +)
    return powers.map { Float($0 / total) }
}

/// The `count` best classes, best first; of equal scores the earlier class. Empty where a score is not a number.
public func topClasses(_ scores: [Float], count: Int = 5) -> [Ranked] {
    let probabilities = softmax(scores)
    guard !probabilities.contains(where: \.isNaN) else { return [] }
    let order = scores.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }
    return order.prefix(max(0, count)).map { Ranked(index: $0, probability: probabilities[$0]) }
}
