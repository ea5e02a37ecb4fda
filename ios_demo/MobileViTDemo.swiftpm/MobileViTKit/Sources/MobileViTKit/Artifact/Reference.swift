import Foundation

/// Reference vectors: images, and PyTorch's answers to them.
public struct Reference: Sendable {
    public struct Case: Equatable, Sendable {
        public enum Role: String, Sendable { case image, view, edge }

        public let name: String
        /// Edge cases, such as noise, do not count in the verdict on an integer precision.
        public let role: Role
        /// The place of the entry whose size the image has.
        public var entry = 0
    }

    /// Those of all entries, in their order.
    public let cases: [Case]
    /// Of each entry, [cases, 3, height, width], RGB.
    private let images: [[UInt8]]
    private let entries: [EntryPoint]
    /// Of each output, in the manifest's order.
    private let values: [[Float]]
    /// Of the file's bytes, as a device report states it.
    public let sha256: String

    /// Numbers of each output in one answer, in the manifest's order.
    public var counts: [Int] { values.map { $0.count / cases.count } }
    /// Numbers in one answer.
    public var answerCount: Int { counts.reduce(0, +) }

    static let maxCases = 10_000

    /// Reads `reference.safetensors`. Throws `KitError.artifact` unless it is whole and fits the manifest.
    public init(data: Data, manifest: Manifest) throws {
        let name = "reference.safetensors"
        let file = try Safetensors(data: data, name: name)
        guard let text = file.metadata["cases"],
            case let rows = try JSONNode(Data(text.utf8), file: "\(name), cases").list(),
            (1...Self.maxCases).contains(rows.count)
        else { throw KitError.artifact("\(name) has no list of cases") }
        let entries = manifest.entries
        self.entries = entries
        let owners = try Self.owners(of: entries, in: file, name, cases: rows.count)
        images = try entries.indices.map { try file.bytes(Self.images(entries, $0)) }
        values = try manifest.heads.map { try Self.values(of: $0, in: file, name, cases: rows.count) }
        cases = try zip(rows, owners).map { row, entry in
            Case(
                name: try row["name"].text(), role: try row.optional("role")?.choice(Case.Role.self) ?? .view,
                entry: entry)
        }
        sha256 = SHA256Digest.hex(of: data)
    }

    /// The image of a case: what an app has after resizing and cropping.
    public func picture(_ index: Int) -> Picture {
        let entry = cases[index].entry, input = entries[entry].input
        let plane = input.height * input.width
        let first = cases.firstIndex { $0.entry == entry } ?? 0
        var picture = Picture(width: input.width, height: input.height)
        images[entry].withUnsafeBufferPointer { all in
            let start = (index - first) * 3 * plane
            picture.pixels.withUnsafeMutableBufferPointer { pixels in
                for pixel in 0..<plane {
                    for channel in 0..<3 { pixels[3 * pixel + channel] = all[start + channel * plane + pixel] }
                }
            }
        }
        return picture
    }

    private static func images(_ entries: [EntryPoint], _ place: Int) -> String {
        place == 0 ? "images" : "images_\(entries[place].input.height)x\(entries[place].input.width)"
    }

    /// The place of each case's entry. Throws where the images of an entry are missing or of another size.
    private static func owners(
        of entries: [EntryPoint], in file: Safetensors, _ name: String, cases: Int
    ) throws -> [Int] {
        let counts = try entries.indices.map { place in
            let images = images(entries, place), input = entries[place].input
            guard let shape = file.tensors[images]?.shape, let count = shape.first, (1...maxCases).contains(count),
                shape == [count, 3, input.height, input.width]
            else {
                throw KitError.artifact("\(name) does not hold \(images) of \(input.height)x\(input.width)")
            }
            return count
        }
        guard counts.reduce(0, +) == cases else {
            throw KitError.artifact("\(name) does not hold \(cases) images, as many as its cases")
        }
        return counts.enumerated().flatMap { Array(repeating: $0.offset, count: $0.element) }
    }

    private static func values(of head: Head, in file: Safetensors, _ name: String, cases: Int) throws -> [Float] {
        guard let shape = file.tensors[head.name]?.shape, shape.first == cases, (2...4).contains(shape.count),
            let count = product(shape), count > 0
        else { throw KitError.artifact("\(name) does not hold \(oneLine(head.name)) for each of its \(cases) cases") }
        if let columns = head.columns {
            let expected = head.kind == .scores ? [cases, columns] : [cases, head.rows, columns]
            guard shape == expected else {
                throw KitError.artifact("\(name): \(oneLine(head.name)) are \(shape), expected \(expected)")
            }
        }
        let values = try file.floats(head.name)
        guard values.allSatisfy(\.isFinite) else {
            throw KitError.artifact(
                "\(name): \(oneLine(head.name)) are not finite, so nothing can be compared with them")
        }
        return values
    }

    /// PyTorch's answer to a case, in row-major order: all outputs, one after the other.
    public func answer(_ index: Int) -> [Float] {
        zip(values, counts).flatMap { $0[index * $1..<(index + 1) * $1] }
    }

    /// An answer by output.
    public func split(_ answer: [Float]) -> [[Float]] {
        var start = 0
        return counts.map { count in
            defer { start += count }
            return Array(answer[start..<start + count])
        }
    }
}
