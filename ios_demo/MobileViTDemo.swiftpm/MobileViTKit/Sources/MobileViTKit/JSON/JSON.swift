import Foundation

/// A value of JSON. Foundation's decoder takes the last of two equal keys, and traps on some damaged texts; its encoder
/// leaves out what is nil, where a device report says null.
enum JSON: Equatable, Sendable, ExpressibleByDictionaryLiteral, ExpressibleByIntegerLiteral {
    case null, bool(Bool), integer(Int), number(Double), text(String), list([JSON]), object([String: JSON])

    init(_ text: String?) { self = text.map(JSON.text) ?? .null }
    init(integerLiteral value: Int) { self = .integer(value) }
    init(dictionaryLiteral members: (String, JSON)...) { self = .object(Dictionary(uniqueKeysWithValues: members)) }
}

extension JSON: Encodable {
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

/// A value that was read, and where: what is missing or of another type is an error that says the place.
struct JSONNode {
    let value: JSON
    /// Such as "manifest.json: app_input.shape".
    let path: String

    /// Parses a file's text. Throws `KitError.artifact` that names it.
    init(_ data: Data, file: String) throws {
        do { value = try JSONParser.parse(data) } catch let error as JSONParser.Failure {
            throw KitError.artifact("\(file) is not JSON (\(error.reason) at byte \(error.offset))")
        }
        path = file + ":"
    }

    private init(_ value: JSON, _ path: String) { (self.value, self.path) = (value, path) }

    /// A member that must be there.
    subscript(_ key: String) -> JSONNode {
        get throws {
            guard let member = try object()[key] else { throw KitError.artifact("\(inner(key)) is missing") }
            return member
        }
    }

    /// A member that may be null or missing.
    func optional(_ key: String) throws -> JSONNode? {
        try object()[key].flatMap { $0.value == .null ? nil : $0 }
    }

    func object() throws -> [String: JSONNode] {
        guard case .object(let members) = value else { throw refusal("an object") }
        return members.reduce(into: [:]) { $0[$1.key] = JSONNode($1.value, inner($1.key)) }
    }

    func list() throws -> [JSONNode] {
        guard case .list(let values) = value else { throw refusal("a list") }
        return values.enumerated().map { JSONNode($1, "\(path)[\($0)]") }
    }

    func text() throws -> String {
        guard case .text(let text) = value else { throw refusal("a text") }
        return text
    }

    func integer() throws -> Int {
        guard case .integer(let number) = value else { throw refusal("an integer") }
        return number
    }

    func number() throws -> Double {
        switch value {
        case .integer(let number): return Double(number)
        case .number(let number): return number
        default: throw refusal("a number")
        }
    }

    func bool() throws -> Bool {
        guard case .bool(let flag) = value else { throw refusal("true or false") }
        return flag
    }

    /// One of the texts that an enumeration knows.
    func choice<T: RawRepresentable<String>>(_ type: T.Type) throws -> T {
        let text = try text()
        guard let known = T(rawValue: text) else {
            throw KitError.artifact("\(path) \"\(text)\" is not known to this app")
        }
        return known
    }

    private func inner(_ key: String) -> String { path.hasSuffix(":") ? "\(path) \(key)" : "\(path).\(key)" }
    private func refusal(_ wanted: String) -> KitError { .artifact("\(path) is not \(wanted)") }
}
