import Foundation

/// What a device answered and how fast, for `mobilevit verify --device-report`: the answers are judged there.
public struct DeviceReport: Sendable {
    /// One engine on all reference cases in order, or why it could not run.
    public struct Run: Sendable {
        public let engine: EngineFacts
        /// One answer for each case; empty where `error` says why.
        public let outputs: [[Float]]
        public let error: String?
        public let latency: Latency?
        public let peakMemoryBytes: Int?
        public let thermalState: String?

        public init(
            engine: EngineFacts, outputs: [[Float]], error: String? = nil, latency: Latency? = nil,
            peakMemoryBytes: Int? = nil, thermalState: String? = nil
        ) {
            self.engine = engine
            self.outputs = error == nil ? outputs : []
            self.error = error.map { oneLine($0) }
            self.latency = error == nil ? latency : nil
            self.peakMemoryBytes = peakMemoryBytes
            self.thermalState = thermalState
        }
    }

    public let app: String, appVersion: String
    public let device: DeviceFacts
    public let artifact: ArtifactFolder
    public let reference: Reference
    public let created: Date
    public let runs: [Run]

    static let maxBytes = 16 << 20

    public init(
        app: String = "mobilevit-ios", appVersion: String, device: DeviceFacts = .current, artifact: ArtifactFolder,
        reference: Reference, created: Date = Date(), runs: [Run]
    ) {
        self.app = app
        self.appVersion = appVersion
        self.device = device
        self.artifact = artifact
        self.reference = reference
        self.created = created
        self.runs = runs
    }

    /// Such as "mobilevit_xxs-coreml-fp16-20261129T120000Z.device-report.json".
    public var fileName: String {
        "\(artifact.name)-\(timestamp.filter { $0 != "-" && $0 != ":" }).device-report.json"
    }

    /// The document, at most 16 MiB. Throws `KitError.report` where a run does not have all cases, or it is larger.
    public func data() throws -> Data {
        guard !runs.isEmpty, runs.allSatisfy({ $0.error != nil || $0.outputs.count == reference.cases.count }) else {
            throw KitError.report("a run without an error must have an answer for each of the \(reference.cases.count) cases")
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard var data = try? encoder.encode(document), data.popLast() == UInt8(ascii: "}") else {
            throw KitError.report("the report cannot be written as JSON")
        }
        data += Data(#","digest":""#.utf8)
        data += Data((SHA256Digest.hex(of: data) + "\"}").utf8)
        guard data.count <= Self.maxBytes else { throw KitError.report("the report is larger than 16 MiB") }
        return data
    }

    private var timestamp: String {
        let formatter = ISO8601DateFormatter()
        formatter.formatOptions = [.withInternetDateTime]
        return formatter.string(from: created)
    }

    private var document: JSON {
        [
            "schema": 1,
            "app": ["name": .text(app), "version": .text(appVersion)],
            "device": ["model": .text(device.model), "system": .text(device.system), "processor": JSON(device.processor)],
            "artifact": [
                "name": .text(artifact.name), "file": .text(artifact.manifest.file),
                "sha256": .text(artifact.manifest.sha256), "reference_sha256": .text(reference.sha256),
            ],
            "created": .text(timestamp),
            "runs": .list(runs.map(json)),
        ]
    }

    private func json(_ run: Run) -> JSON {
        let name = artifact.manifest.answer
        let cases = zip(reference.cases, run.outputs).map { each, output -> JSON in
            ["name": .text(each.name), "outputs": [name: .text(base64(output))]]
        }
        return [
            "runtime": .text(run.engine.runtime), "runtime_version": JSON(run.engine.version),
            "accelerator": .text(run.engine.accelerator.rawValue), "precision": JSON(run.engine.precision),
            "fully_accelerated": run.engine.fullyAccelerated.map(JSON.bool) ?? .null,
            "cases": .list(cases), "error": JSON(run.error), "latency": run.latency.map(json) ?? .null,
            "peak_memory_bytes": run.peakMemoryBytes.map(JSON.integer) ?? .null, "thermal_state": JSON(run.thermalState),
        ]
    }

    private func json(_ latency: Latency) -> JSON {
        func timings(_ each: Timings) -> JSON {
            ["samples": .list(each.samples.map(JSON.number)), "p50": .number(each.p50), "p90": .number(each.p90)]
        }
        return [
            "warm_up": .integer(latency.warmUp), "inference_ms": timings(latency.inference),
            "with_preprocessing_ms": latency.withPreprocessing.map(timings) ?? .null,
        ]
    }
}

/// Float32, little-endian, in row-major order.
func base64(_ values: [Float]) -> String {
    let bytes = values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * UInt32($0))) } }
    return Data(bytes).base64EncodedString()
}

/// A value of JSON. An optional of Codable would leave a member out, and the report has all of them, null where unknown.
enum JSON: Encodable, ExpressibleByDictionaryLiteral, ExpressibleByIntegerLiteral {
    case null, bool(Bool), integer(Int), number(Double), text(String), list([JSON]), object([String: JSON])

    init(_ text: String?) { self = text.map(JSON.text) ?? .null }
    init(integerLiteral value: Int) { self = .integer(value) }
    init(dictionaryLiteral members: (String, JSON)...) { self = .object(Dictionary(uniqueKeysWithValues: members)) }

    func encode(to encoder: Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        case .list(let values): try container.encode(values)
        case .object(let members): try container.encode(members)
        }
    }
}
