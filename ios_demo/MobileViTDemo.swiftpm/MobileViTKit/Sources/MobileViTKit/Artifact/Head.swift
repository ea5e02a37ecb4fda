/// One output of a network: its own answer, that of a task beside it, or one of the two of a detector.
public struct Head: Equatable, Sendable {
    /// How the values are compared, and what they are. A detector's are those of many queries each.
    public enum Kind: String, Sendable {
        case scores, features
        case queryScores = "query-scores"
        case boxes
    }

    /// In the phone file, in the reference vectors and in the report.
    public let name: String
    public let kind: Kind
    /// Queries of a detector; 1 of all others.
    public let rows: Int
    /// Numbers in a row: classes, of a detector with "no object" as the last, or four of a box; nil of features.
    public let columns: Int?
    /// Of the classes without "no object"; nil where there are none.
    public let labels: [String]?

    /// Numbers in one answer; nil where the manifest does not say.
    public var count: Int? { columns.map { rows * $0 } }

    public init(name: String, kind: Kind = .scores, rows: Int = 1, columns: Int?, labels: [String]? = nil) {
        self.name = name
        self.kind = kind
        self.rows = rows
        self.columns = columns
        self.labels = labels
    }

    static let maxClasses = 1_000_000, maxQueries = 4096

    /// The outputs in the order in which an answer holds them, of a manifest. Throws `KitError.artifact`.
    static func all(_ document: JSONNode) throws -> [Head] {
        let spec = try document["spec"]
        let labels = try spec.optional("labels")?.list().map { try $0.text() }
        if labels?.isEmpty == true { throw KitError.artifact("manifest.json has labels that fit no class scores") }
        let features = try spec.optional("features")?.text()
        let config = try spec["config"]
        if let node = try config.optional("num_queries") {
            let queries = try bounded(node, maxQueries, "num_queries")
            guard features == nil, try spec.optional("tasks") == nil else {
                throw KitError.artifact("manifest.json: a detector answers no tasks and returns no features")
            }
            let classes = try bounded(config["num_classes"], maxClasses, "num_classes")
            return try detector(document, queries: queries, classes: classes, labels: labels)
        }
        if features != nil {
            guard labels == nil, try spec.optional("scores") == nil else {
                throw KitError.artifact(
                    "manifest.json has labels or class scores beside features, which this app does not take")
            }
            return [Head(name: "features", kind: .features, columns: nil)]
        }
        let classes = try bounded(config["num_classes"], maxClasses, "num_classes")
        let heads = try [Head(name: "logits", columns: classes, labels: labels)] + tasks(spec)
        for head in heads {
            if let labels = head.labels, labels.count != head.columns {
                throw KitError.artifact(
                    "manifest.json has \(labels.count) labels for the \(head.columns ?? 0) classes of \(oneLine(head.name))")
            }
        }
        guard Set(heads.map(\.name)).count == heads.count else {
            throw KitError.artifact("manifest.json has two outputs of one name")
        }
        return heads
    }

    private static func tasks(_ spec: JSONNode) throws -> [Head] {
        try spec.optional("tasks")?.list().map { task in
            Head(
                name: try task["name"].text(), columns: try bounded(task["num_classes"], maxClasses, "num_classes"),
                labels: try task.optional("labels")?.list().map { try $0.text() })
        } ?? []
    }

    private static func detector(
        _ document: JSONNode, queries: Int, classes: Int, labels: [String]?
    ) throws -> [Head] {
        if let labels, labels.count != classes {
            throw KitError.artifact("manifest.json has \(labels.count) labels for \(classes) classes")
        }
        let heads = [
            Head(name: "logits", kind: .queryScores, rows: queries, columns: classes + 1, labels: labels),
            Head(name: "boxes", kind: .boxes, rows: queries, columns: 4),
        ]
        let outputs = try document["outputs"].list().map { output in
            (name: try output["name"].text(), shape: try output["shape"].list().map { try $0.integer() })
        }
        for head in heads {
            let expected = [1, head.rows, head.columns ?? 0]
            guard outputs.contains(where: { $0.name == head.name && $0.shape == expected }) else {
                throw KitError.artifact(
                    "manifest.json: a detector without \(head.name) of shape \(expected); convert it again")
            }
        }
        return heads
    }

    private static func bounded(_ node: JSONNode, _ most: Int, _ name: String) throws -> Int {
        let value = try node.integer()
        guard (1...most).contains(value) else {
            throw KitError.artifact("manifest.json: \(name) must be 1 to \(most), not \(value)")
        }
        return value
    }
}
