import MobileViTKit

/// Where engines come from: the kit's own, or a test's.
public struct EngineSource: Sendable {
    let choices: @Sendable (Manifest) -> [EngineChoice]
    let missing: @Sendable (EngineChoice) -> String?
    let open: @Sendable (EngineChoice, ArtifactFolder) async throws -> any Engine

    public init(
        choices: @escaping @Sendable (Manifest) -> [EngineChoice],
        missing: @escaping @Sendable (EngineChoice) -> String?,
        open: @escaping @Sendable (EngineChoice, ArtifactFolder) async throws -> any Engine
    ) {
        self.choices = choices
        self.missing = missing
        self.open = open
    }

    public static let kit = EngineSource(choices: EngineChoice.all, missing: \.missing) { try await $0.open($1) }

    /// What can be chosen for an artifact; where nothing can, one option that says why.
    func options(for manifest: Manifest) -> [EngineOption] {
        let choices = choices(manifest)
        if choices.isEmpty {
            return [
                EngineOption(
                    id: manifest.format, title: formatTitle(manifest.format), choice: nil,
                    unavailable: Self.missing(manifest.format))
            ]
        }
        return choices.map { choice in
            let missing = missing(choice)
            return EngineOption(
                id: choice.id, title: choice.title, choice: missing == nil ? choice : nil, unavailable: missing)
        }
    }

    private static func missing(_ format: String) -> String {
        switch format {
        case "executorch": "ExecuTorch is not in this build: add its package to Package.swift"
        case "coreai": "Core AI needs the SDK of iOS 27"
        case "tflite": "This app does not run TFLite files: convert with --to coreml or executorch"
        default: "This build of the app does not run it"
        }
    }
}

/// An engine as the screens show it.
public struct EngineOption: Identifiable, Equatable, Sendable {
    public let id: String
    public let title: String
    /// nil where there is nothing to open.
    let choice: EngineChoice?
    /// Why it cannot run, or could not when it was last tried; nil where it can, or was not tried yet.
    public internal(set) var unavailable: String?

    /// Whether there is something to try.
    public var canBeTried: Bool { choice != nil }
}
