@_exported import CoreTransferable
@_exported import SwiftUI

public struct PhotosPickerItem: Equatable, Hashable, Sendable {
    public init(itemIdentifier: String) { fatalError() }
    public var itemIdentifier: String? { fatalError() }
    public func loadTransferable<T>(type: T.Type) async throws -> T? where T: Transferable { fatalError() }
}

public struct PHPickerFilter: Equatable, Hashable, Sendable {
    public static var images: PHPickerFilter { fatalError() }
}

@MainActor @preconcurrency public struct PhotosPicker<Label>: View where Label: View {
    public init(
        selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil,
        preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic,
        @ViewBuilder label: () -> Label
    ) { fatalError() }
    public var body: some View { EmptyView() }
}

extension PhotosPickerItem {
    public struct EncodingDisambiguationPolicy: Equatable, Hashable, Sendable {
        public static var automatic: EncodingDisambiguationPolicy { fatalError() }
        public static var current: EncodingDisambiguationPolicy { fatalError() }
        public static var compatible: EncodingDisambiguationPolicy { fatalError() }
    }
}
