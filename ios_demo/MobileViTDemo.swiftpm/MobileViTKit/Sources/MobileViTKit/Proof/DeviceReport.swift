import Foundation

/// What a device answered and how fast, for `mobilevit verify --device-report`: the answers are judged there.
public struct DeviceReport: Sendable {
    /// One engine on all reference cases in order, or why it could not run.
    public struct Run: Sendable {
        public let engine: EngineFacts
        /// One answer for each case, all outputs one after the other; empty where `error` says why.
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
        // Of an artifact's name as much as leaves room for the rest in a file name of 255 bytes.
        "\(oneLine(artifact.name, limit: 50))-\(timestamp.filter { $0 != "-" && $0 != ":" }).device-report.json"
    }

    /// The document, at most 16 MiB. Throws `KitError.report` where a run does not have all cases, where two runs are of
    /// the same engine, or where it is larger.
    public func data() throws -> Data {
        guard !runs.isEmpty, runs.allSatisfy({ $0.error != nil || $0.outputs.count == reference.cases.count }),
            runs.allSatisfy({ $0.outputs.allSatisfy { $0.count == reference.answerCount } })
        else {
            throw KitError.report(
                "a run without an error must have an answer for each of the \(reference.cases.count) cases")
        }
        guard runs.count <= 32,
            Set(runs.map { [$0.engine.runtime, $0.engine.accelerator.rawValue, $0.engine.precision] }).count
                == runs.count
        else {
            throw KitError.report("a report has at most 32 runs, each of another runtime, accelerator or precision")
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
            "app": ["name": short(app), "version": short(appVersion)],
            "device": [
                "model": short(device.model), "system": short(device.system),
                "processor": device.processor.map(short) ?? .null,
            ],
            "artifact": [
                "name": short(artifact.name), "file": .text(artifact.manifest.file),
                "sha256": .text(artifact.manifest.sha256), "reference_sha256": .text(reference.sha256),
            ],
            "created": .text(timestamp),
            "runs": .list(runs.map(json)),
        ]
    }

    private func json(_ run: Run) -> JSON {
        let names = artifact.manifest.heads.map(\.name)
        let cases = zip(reference.cases, run.outputs).map { each, output -> JSON in
            let named = zip(names, reference.split(output)).map { ($0, JSON.text(base64($1))) }
            return ["name": .text(each.name), "outputs": .object(Dictionary(uniqueKeysWithValues: named))]
        }
        return [
            "runtime": .text(run.engine.runtime), "runtime_version": run.engine.version.map(short) ?? .null,
            "accelerator": .text(run.engine.accelerator.rawValue), "precision": JSON(run.engine.precision),
            "fully_accelerated": run.engine.fullyAccelerated.map(JSON.bool) ?? .null,
            "cases": .list(cases), "error": JSON(run.error), "latency": run.latency.map(json) ?? .null,
            "peak_memory_bytes": run.peakMemoryBytes.map(JSON.integer) ?? .null,
            "thermal_state": JSON(run.thermalState),
        ]
    }

    private func json(_ latency: Latency) -> JSON {
        func timings(_ each: Timings) -> JSON {
            ["samples": .list(each.samples.map(JSON.number)), "p50": .number(each.p50), "p90": .number(each.p90)]
        }
        func times(_ inference: Timings, _ whole: Timings?) -> [(String, JSON)] {
            [("inference_ms", timings(inference)), ("with_preprocessing_ms", whole.map(timings) ?? .null)]
        }
        let entries = latency.entries.map { entry in
            object([("name", .text(entry.name))] + times(entry.inference, entry.withPreprocessing))
        }
        return object(
            [("warm_up", .integer(latency.warmUp))] + times(latency.inference, latency.withPreprocessing)
                + (entries.isEmpty ? [] : [("entries", .list(entries))]))
    }

    private func object(_ members: [(String, JSON)]) -> JSON {
        .object(Dictionary(uniqueKeysWithValues: members))
    }
}

/// The report's reader takes texts of one line and 200 characters.
private func short(_ text: String) -> JSON { .text(oneLine(text, limit: 200)) }

/// Float32, little-endian, in row-major order.
func base64(_ values: [Float]) -> String {
    let bytes = values.flatMap { value in
        (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * UInt32($0))) }
    }
    return Data(bytes).base64EncodedString()
}
