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

/// The text on one line of at most `limit` Unicode scalars, never empty; control characters become spaces.
func oneLine(_ text: String, limit: Int = 500) -> String {
    let words = text.unicodeScalars.split { $0.properties.isWhitespace || $0.properties.generalCategory == .control }
    let line = words.map { String($0) }.joined(separator: " ")
    if line.isEmpty { return "unknown" }
    guard line.unicodeScalars.count > limit else { return line }
    return String(String.UnicodeScalarView(line.unicodeScalars.prefix(limit - 1))) + "…"
}
