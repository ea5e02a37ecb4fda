import Foundation

/// What `manifest.json` says of a phone file, as far as an app needs it.
public struct Manifest: Equatable, Sendable {
    /// Name of the file, or of the package folder, beside the manifest.
    public let file: String
    /// "coreml", "tflite", "executorch" or "coreai".
    public let format: String
    /// "fp32", "fp16", "int8", "int8-dynamic", "int8-weight" or "int4-weight".
    public let precision: String
    /// The delegate that the file was made for, such as "xnnpack"; nil where it has no name.
    public let backend: String?
    /// Of the file, in bytes.
    public let bytes: Int
    /// Of the file, 64 lowercase hexadecimal digits; of a package folder, of its files' names and contents in order.
    public let sha256: String
    public let model: String
    /// The outputs, in the order in which an answer holds their values one after the other.
    public let heads: [Head]
    /// Of the first of `entries`.
    public let input: AppInput
    /// One for each input size that the file has.
    public let entries: [EntryPoint]
    /// Kinds of operators of an ExecuTorch file that its delegate does not take; nil where the manifest does not say.
    public let undelegatedOperators: Int?
    /// Why the file was rejected when it was converted; empty where it was not.
    public let rejections: [String]

    /// Names of the network's own classes in the order of the scores; nil where the checkpoint had none.
    public var labels: [String]? { heads[0].labels }
    /// Whether it answers with boxes.
    public var detects: Bool { heads[0].kind == .queryScores }

    static let maxBytes = 16 << 20

    /// Reads a manifest. Throws `KitError.artifact` where it is not one of schema 1 or 2, or describes no image input.
    public init(data: Data) throws {
        guard data.count <= Self.maxBytes else { throw KitError.artifact("manifest.json is larger than 16 MiB") }
        let document = try JSONNode(data, file: "manifest.json")
        let schema = try document["schema"].integer()
        guard (1...2).contains(schema) else {
            throw KitError.artifact("manifest.json has schema \(schema), and this app reads 1 and 2: update the app")
        }
        file = try document["file"].text()
        guard isPlainName(file) else {
            throw KitError.artifact("manifest.json names the file \"\(file)\", which is not in its folder")
        }
        format = try document["format"].text()
        precision = try document["precision"].text()
        backend = try document.optional("backend")?.text()
        bytes = try document["bytes"].integer()
        guard bytes > 0 else { throw KitError.artifact("manifest.json says that the file has \(bytes) bytes") }
        sha256 = try document["sha256"].text()
        guard isSHA256(sha256) else {
            throw KitError.artifact("manifest.json has a sha256 that is not 64 lowercase hexadecimal digits")
        }
        let spec = try document["spec"]
        model = try spec["model"].text()
        heads = try Head.all(document)
        guard let input = try document.optional("app_input") else {
            throw KitError.artifact("\(file) does not take one image (app_input is null), so this app cannot feed it")
        }
        self.input = try AppInput(input)
        entries = try EntryPoint.all(document, input: self.input, format: format)
        undelegatedOperators = try document.optional("undelegated_ops")?.object().count
        if let judgment = try document.optional("quantization")?.optional("judgment"), try judgment["rejected"].bool() {
            let reasons = try judgment.optional("reasons")?.list().map { try $0.text() } ?? []
            rejections = reasons.isEmpty ? ["it does its task too badly"] : reasons
        } else {
            rejections = []
        }
    }
}

/// Whether a name is that of something directly in a folder: not a path, not the folder, not the one above.
func isPlainName(_ name: String) -> Bool {
    name != "." && name != ".." && (1...200).contains(name.utf8.count)
        && !name.unicodeScalars.contains {
            "/\\:".unicodeScalars.contains($0) || $0.properties.generalCategory == .control
        }
}

func isSHA256(_ text: String) -> Bool {
    text.utf8.count == 64 && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
}
