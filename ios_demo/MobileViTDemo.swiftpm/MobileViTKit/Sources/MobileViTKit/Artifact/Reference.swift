import Foundation

/// Reference vectors: images, and PyTorch's answers to them.
public struct Reference: Sendable {
    public struct Case: Equatable, Sendable {
        public enum Role: String, Sendable { case image, view, edge }

        public let name: String
        /// Edge cases, such as noise, do not count in the verdict on an integer precision.
        public let role: Role
    }

    public let cases: [Case]
    /// [cases, 3, height, width], RGB.
    private let images: [UInt8]
    /// Of one answer: [classes], [C] or [C, h, w].
    public let answerShape: [Int]
    private let values: [Float]
    public let height: Int, width: Int
    /// Of the file's bytes, as a device report states it.
    public let sha256: String

    /// Numbers in one answer.
    public var answerCount: Int { values.count / cases.count }

    static let maxCases = 10_000

    /// Reads `reference.safetensors`. Throws `KitError.artifact` unless it is whole and fits the manifest.
    public init(data: Data, manifest: Manifest) throws {
        let name = "reference.safetensors"
        let file = try Safetensors(data: data, name: name)
        guard let text = file.metadata["cases"],
            case let rows = try JSONNode(Data(text.utf8), file: "\(name), cases").list(),
            (1...Self.maxCases).contains(rows.count)
        else { throw KitError.artifact("\(name) has no list of cases") }
        let (height, width) = (manifest.input.height, manifest.input.width)
        guard file.tensors["images"]?.shape == [rows.count, 3, height, width] else {
            throw KitError.artifact(
                "\(name) does not hold \(rows.count) images of \(height)x\(width), as its cases and the manifest say")
        }
        guard let answers = file.tensors[manifest.answer], answers.shape.first == rows.count,
            (2...4).contains(answers.shape.count), let count = product(answers.shape), count > 0
        else { throw KitError.artifact("\(name) does not hold \(manifest.answer) for each of its \(rows.count) cases") }
        if manifest.kind == .scores {
            guard answers.shape.count == 2 else { throw KitError.artifact("\(name): logits are not [cases, classes]") }
            if let labels = manifest.labels, labels.count != answers.shape[1] {
                throw KitError.artifact(
                    "\(name) has \(answers.shape[1]) classes, and the manifest \(labels.count) labels")
            }
        }
        images = try file.bytes("images")
        values = try file.floats(manifest.answer)
        guard values.allSatisfy(\.isFinite) else {
            throw KitError.artifact("\(name): \(manifest.answer) are not finite, so nothing can be compared with them")
        }
        cases = try rows.map { row in
            Case(name: try row["name"].text(), role: try row.optional("role")?.choice(Case.Role.self) ?? .view)
        }
        answerShape = Array(answers.shape.dropFirst())
        self.height = height
        self.width = width
        sha256 = SHA256Digest.hex(of: data)
    }

    /// The image of a case: what an app has after resizing and cropping.
    public func picture(_ index: Int) -> Picture {
        let plane = height * width
        var picture = Picture(width: width, height: height)
        images.withUnsafeBufferPointer { all in
            let start = index * 3 * plane
            picture.pixels.withUnsafeMutableBufferPointer { pixels in
                for pixel in 0..<plane {
                    for channel in 0..<3 { pixels[3 * pixel + channel] = all[start + channel * plane + pixel] }
                }
            }
        }
        return picture
    }

    /// PyTorch's answer to a case, in row-major order.
    public func answer(_ index: Int) -> [Float] {
        Array(values[index * answerCount..<(index + 1) * answerCount])
    }
}
