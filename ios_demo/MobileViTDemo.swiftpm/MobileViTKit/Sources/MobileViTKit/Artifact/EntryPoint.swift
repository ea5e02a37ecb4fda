/// One of the input sizes of a file.
public struct EntryPoint: Equatable, Sendable {
    /// Of its function (Core ML, Core AI), method (ExecuTorch) or signature; nil where there is only one, whatever that
    /// is called.
    public let name: String?
    public let input: AppInput

    static let most = 16
    /// What the first of several is called.
    static let firstNames = [
        "coreml": "main", "coreai": "main", "executorch": "forward", "tflite": "serving_default",
    ]

    /// For people, such as "image_256x192, 192×256 pixels"; nil where there is only one.
    public var title: String? { name.map { "\($0), \(input.width)×\(input.height) pixels" } }

    /// The entries of a manifest, each checked against the first, which is what the rest of the manifest describes.
    ///
    /// Throws `KitError.artifact`.
    static func all(_ document: JSONNode, input: AppInput, format: String) throws -> [EntryPoint] {
        func refuse(_ what: String) -> KitError { .artifact("manifest.json: \(what)") }
        let schema = try document["schema"].integer(), rows = try document.optional("entries")?.list()
        guard (schema == 2) == (rows != nil) else {
            throw refuse("schema \(schema) \(rows == nil ? "without" : "with") entries")
        }
        let sizes = try document["spec"].optional("image_sizes")?.list().map(size)
        guard let rows else {
            guard sizes == nil else { throw refuse("spec has image_sizes, and the file has no entries") }
            return [EntryPoint(name: nil, input: input)]
        }
        guard (2...most).contains(rows.count) else { throw refuse("\(rows.count) entries, expected 2 to \(most)") }
        guard try rows.map({ try size($0["image_size"]) }) == sizes, let sizes else {
            throw refuse("spec.image_sizes are not those of the entries")
        }
        guard Set(sizes).count == sizes.count else { throw refuse("two entries have one image_size") }
        let answers = try outputs(document)
        return try rows.enumerated().map { place, row in
            let name = try row["name"].text(), own = try AppInput(row["app_input"])
            let (height, width) = (sizes[place][0], sizes[place][1])
            let expected = place == 0 ? firstNames[format] : "image_\(height)x\(width)"
            guard name == expected else {
                throw refuse("an entry is called \"\(oneLine(name, limit: 60))\", expected \(expected ?? "another")")
            }
            guard (own.height, own.width) == (height, width) else {
                throw refuse("\(name) takes \(own.height)x\(own.width), and is for \(height)x\(width)")
            }
            let isAlike = own.name == input.name && own.layout == input.layout && own.range == input.range
            guard isAlike, try outputs(row) == answers, place > 0 || own == input else {
                throw refuse("\(name) does not take and answer what the file's first entry does")
            }
            return EntryPoint(name: name, input: own)
        }
    }

    private static func size(_ node: JSONNode) throws -> [Int] {
        let sides = try node.list().map { try $0.integer() }
        guard sides.count == 2 else { throw KitError.artifact("manifest.json: a size of \(sides.count) numbers") }
        return sides
    }

    private static func outputs(_ node: JSONNode) throws -> [Output] {
        try node["outputs"].list().map { output in
            Output(name: try output["name"].text(), shape: try output["shape"].list().map { try $0.integer() })
        }
    }

    private struct Output: Equatable {
        let name: String
        let shape: [Int]
    }
}

extension [EntryPoint] {
    /// The place of the entry that an upright picture takes: |log(w/h of the picture) - log(w/h of the entry)| is smallest,
    /// of equally near ones the first.
    public func nearest(width: Int, height: Int) -> Int {
        let distances = map { entry in
            let across = Double(width) * Double(entry.input.height), down = Double(height) * Double(entry.input.width)
            return Swift.max(across, down) / Swift.min(across, down)  // the exponential, alike in all languages
        }
        return distances.firstIndex(of: distances.min()!)!
    }

    /// The place of the entry whose input has the size of a picture. Throws `KitError.picture` where none has.
    func place(of picture: Picture) throws -> Int {
        guard let place = firstIndex(where: { ($0.input.width, $0.input.height) == (picture.width, picture.height) })
        else {
            throw KitError.picture("no input of the file has the picture's size, \(picture.width)x\(picture.height)")
        }
        return place
    }
}
