import Foundation

/// What this package throws, besides `CancellationError`. The message is one line for people: what is wrong and where.
public enum KitError: Error, Equatable, Sendable, LocalizedError {
    /// A file that is missing, damaged, foreign, or does not fit the others of its folder.
    case artifact(String)
    /// A picture that cannot be prepared for the model.
    case picture(String)
    /// A runtime that is missing, or that refuses the file or the accelerator.
    case engine(String)
    /// Measurements that no device report can hold.
    case report(String)

    public var message: String {
        switch self {
        case .artifact(let text), .picture(let text), .engine(let text), .report(let text): oneLine(text)
        }
    }

    public var errorDescription: String? { message }
}

/// The text on one line of at most `limit` characters; control characters become spaces.
func oneLine(_ text: String, limit: Int = 500) -> String {
    let words = text.split { $0.isWhitespace || $0.unicodeScalars.contains { $0.properties.generalCategory == .control } }
    let line = words.joined(separator: " ")
    return line.count <= limit ? line : line.prefix(limit - 1) + "…"
}
