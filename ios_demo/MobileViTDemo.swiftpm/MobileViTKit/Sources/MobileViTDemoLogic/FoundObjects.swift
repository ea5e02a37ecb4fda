import Foundation
import MobileViTKit

/// A class's color: light enough for dark text, and far from that of its neighbors.
public struct BoxColor: Equatable, Sendable {
    /// From 0 to 1.
    public let hue: Double
    public let saturation = 0.56, brightness = 1.0

    public init(of index: Int) {
        hue = (Double(index) * 137.508 / 360).truncatingRemainder(dividingBy: 1)  // the golden angle
    }
}

/// What a detector finds in a picture, as a screen shows it.
public struct FoundObjects: Equatable, Sendable {
    public struct Object: Identifiable, Equatable, Sendable {
        public let id: Int
        public let label: String
        public let probability: Double
        /// As shares of the upright picture.
        public let box: CGRect
        public let color: BoxColor

        /// Such as "cat 93%".
        public var caption: String { "\(label) \(Int((100 * probability).rounded()))%" }
    }

    /// The surest first.
    public let objects: [Object]
    /// Of the upright picture, in pixels.
    public let picture: CGSize

    static let listed = 10

    init(_ answer: [Float], _ manifest: Manifest, _ frame: PreparedFrame) throws {
        let found = try Detection.all(in: answer, of: manifest, width: frame.width, height: frame.height)
        objects = found.enumerated().map { rank, each in
            Object(
                id: rank, label: className(each.index, manifest.labels), probability: Double(each.probability),
                box: each.box, color: BoxColor(of: each.index))
        }
        picture = CGSize(width: frame.width, height: frame.height)
    }

    var scores: [ClassifyModel.Score] {
        objects.prefix(Self.listed).map {
            ClassifyModel.Score(
                id: $0.id, label: $0.label, probability: $0.probability, isBest: $0.id == 0, color: $0.color)
        }
    }

    /// Where an object lies in a view of this size, in which the picture is shown whole or, where it `fills`, cut to the
    /// view's shape.
    public func frame(of object: Object, in view: CGSize, fills: Bool) -> CGRect {
        let across = view.width / picture.width, down = view.height / picture.height
        let scale = fills ? max(across, down) : min(across, down)
        let shown = CGSize(width: picture.width * scale, height: picture.height * scale)
        return CGRect(
            x: (view.width - shown.width) / 2 + object.box.minX * shown.width,
            y: (view.height - shown.height) / 2 + object.box.minY * shown.height,
            width: object.box.width * shown.width, height: object.box.height * shown.height)
    }
}
