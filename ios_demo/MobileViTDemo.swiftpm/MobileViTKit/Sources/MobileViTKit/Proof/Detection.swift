import Foundation

/// An object that a detector finds.
public struct Detection: Equatable, Sendable {
    public let index: Int
    public let probability: Float
    /// As shares of the upright picture, from its top left corner.
    public let box: CGRect

    /// From which probability on an object is shown.
    public static let leastProbability: Float = 0.7

    /// The objects of an answer that are at least as sure as `least`, the surest first. No two queries answer for one
    /// object, so none is suppressed. `width` and `height` are those of the upright picture before it was resized.
    ///
    /// Throws `KitError.engine` where the answer has another size than the manifest says, or is not finite.
    public static func all(
        in answer: [Float], of manifest: Manifest, width: Int, height: Int, least: Float = leastProbability
    ) throws -> [Detection] {
        guard manifest.detects, let scores = manifest.heads[0].columns, case let queries = manifest.heads[0].rows,
            answer.count == queries * (scores + 4)
        else { throw KitError.engine("it answers with \(answer.count) numbers, which are not those of a detector") }
        guard answer.allSatisfy(\.isFinite) else {
            throw KitError.engine("The answer holds what is not a number: verify the file.")
        }
        let entry = manifest.entries.nearest(width: width, height: height)
        let part = manifest.entries[entry].input.seenPart(width: width, height: height)
        let found = (0..<queries).compactMap { query -> Detection? in
            let shares = softmax(Array(answer[query * scores..<(query + 1) * scores])).dropLast()  // the last: no object
            guard let best = shares.max(), best >= least, let index = shares.firstIndex(of: best) else { return nil }
            let first = queries * scores + 4 * query
            let (x, y, w, h) = (answer[first], answer[first + 1], answer[first + 2], answer[first + 3])
            let (left, right) = (part.x(Double(x - w / 2)), part.x(Double(x + w / 2)))
            let (top, bottom) = (part.y(Double(y - h / 2)), part.y(Double(y + h / 2)))
            let box = CGRect(x: left, y: top, width: max(0, right - left), height: max(0, bottom - top))
            return Detection(index: index, probability: best, box: box)
        }
        // Swift's sort keeps no order of equals by its contract.
        return found.enumerated().sorted { ($1.element.probability, $0.offset) < ($0.element.probability, $1.offset) }
            .map(\.element)
    }
}

extension AppInput {
    /// The part of an upright picture of this size that the input shows, as shares of it, from the top left corner.
    func seenPart(width: Int, height: Int) -> CGRect {
        guard resizing.mode == .shorterSide else { return CGRect(x: 0, y: 0, width: 1, height: 1) }
        let longest = 16 * min(width, height)  // of a longer strip the middle is resized
        let (w, h) = (min(width, longest), min(height, longest))
        let scale = max(
            Double(resizing.size[0]) / Double(min(w, h)), Double(self.width) / Double(w), Double(self.height) / Double(h)
        )
        func part(_ whole: Int, _ window: Int, _ crop: Int) -> (start: Double, length: Double) {
            let resized = max(crop, Int((Double(window) * scale).rounded(.toNearestOrEven)))
            let pixel = Double(window) / Double(resized)  // of the resized picture, in those of the picture
            let start = Double((whole - window) / 2) + Double((resized - crop) / 2) * pixel
            return (start / Double(whole), Double(crop) * pixel / Double(whole))
        }
        let (across, down) = (part(width, w, self.width), part(height, h, self.height))
        return CGRect(x: across.start, y: down.start, width: across.length, height: down.length)
    }
}

extension CGRect {
    /// Where a share of this part's width lies; the picture's edges are the farthest.
    fileprivate func x(_ share: Double) -> Double { max(0, min(1, Double(minX) + share * Double(width))) }
    fileprivate func y(_ share: Double) -> Double { max(0, min(1, Double(minY) + share * Double(height))) }
}
