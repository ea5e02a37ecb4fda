import Foundation

/// What `manifest.json` says of a phone file, as far as an app needs it.
public struct Manifest: Equatable, Sendable {
    /// How a network's answers are compared.
    public enum Kind: String, Sendable { case scores, features }

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
    /// Names of the classes in the order of the scores; nil where the checkpoint had none.
    public let labels: [String]?
    public let kind: Kind
    public let input: AppInput
    /// Kinds of operators of an ExecuTorch file that its delegate does not take; nil where the manifest does not say.
    public let undelegatedOperators: Int?
    /// Why the file was rejected when it was converted; empty where it was not.
    public let rejections: [String]

    /// The name of the answer, in the phone file and in the reference vectors.
    public var answer: String { kind == .scores ? "logits" : "features" }

    static let maxBytes = 16 << 20

    /// Reads a manifest. Throws `KitError.artifact` where it is not one of schema 1, or describes no image input.
    public init(data: Data) throws {
        guard data.count <= Self.maxBytes else { throw KitError.artifact("manifest.json is larger than 16 MiB") }
        let fields: Fields
        do {
            let schema = try JSONDecoder().decode(Schema.self, from: data).schema
            guard schema == 1 else {
                throw KitError.artifact("manifest.json has schema \(schema), and this app reads schema 1: update the app")
            }
            fields = try JSONDecoder().decode(Fields.self, from: data)
        } catch let error as DecodingError {
            throw KitError.artifact("manifest.json is not a manifest of the SDK (\(describe(error)))")
        } catch let error as KitError {
            throw error
        } catch {
            throw KitError.artifact("manifest.json is not a manifest of the SDK (it is not JSON)")
        }
        guard isPlainName(fields.file) else {
            throw KitError.artifact("manifest.json names the file \"\(fields.file)\", which is not in its folder")
        }
        guard fields.bytes > 0 else { throw KitError.artifact("manifest.json says that the file has \(fields.bytes) bytes") }
        guard isSHA256(fields.sha256) else {
            throw KitError.artifact("manifest.json has a sha256 that is not 64 lowercase hexadecimal digits")
        }
        guard let input = fields.appInput else {
            throw KitError.artifact("\(fields.file) does not take one image (app_input is null), so this app cannot feed it")
        }
        try input.check()
        let features = fields.spec.features != nil
        if let labels = fields.spec.labels, labels.isEmpty || features {
            throw KitError.artifact("manifest.json has labels that fit no class scores")
        }
        file = fields.file
        format = fields.format
        precision = fields.precision
        backend = fields.backend
        bytes = fields.bytes
        sha256 = fields.sha256
        model = fields.spec.model
        labels = fields.spec.labels
        kind = features ? .features : .scores
        self.input = input
        undelegatedOperators = fields.undelegated?.count
        let judgment = fields.quantization?.judgment
        rejections = judgment?.rejected == true ? judgment?.reasons ?? ["it does its task too badly"] : []
    }

    private struct Schema: Decodable { let schema: Int }

    private struct Fields: Decodable {
        let file, format, precision, sha256: String
        let backend: String?
        let bytes: Int
        let spec: Spec
        let appInput: AppInput?
        let quantization: Quantization?
        let undelegated: [String: Int]?

        enum CodingKeys: String, CodingKey {
            case file, format, precision, backend, bytes, sha256, spec, quantization
            case appInput = "app_input"
            case undelegated = "undelegated_ops"
        }
    }

    private struct Spec: Decodable {
        let model: String
        let labels: [String]?
        let features: String?
    }

    private struct Quantization: Decodable {
        struct Judgment: Decodable {
            let rejected: Bool
            let reasons: [String]?
        }
        let judgment: Judgment?
    }
}

/// Whether a name is that of something directly in a folder: not a path, not the folder, not the one above.
func isPlainName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && name.utf8.count <= 255
        && !name.unicodeScalars.contains { $0 == "/" || $0 == "\\" || $0 == ":" || $0.value < 32 }
}

func isSHA256(_ text: String) -> Bool {
    text.utf8.count == 64 && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
}

private func describe(_ error: DecodingError) -> String {
    func place(_ context: DecodingError.Context, _ key: String? = nil) -> String {
        let path = (context.codingPath.map(\.stringValue) + (key.map { [$0] } ?? [])).joined(separator: ".")
        return path.isEmpty ? "the document" : path
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(place(context, key.stringValue)) is missing"
    case .typeMismatch(_, let context): return "\(place(context)) has the wrong type"
    case .valueNotFound(_, let context): return "\(place(context)) is null"
    case .dataCorrupted(let context): return "\(place(context)) is malformed"
    @unknown default: return "it is malformed"
    }
}
