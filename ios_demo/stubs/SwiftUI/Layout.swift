public protocol Layout {}
public struct AnyLayout: Layout {
    public init<L>(_ layout: L) where L: Layout { fatalError() }
}
public struct HStackLayout: Layout {
    public init(alignment: VerticalAlignment = .center, spacing: CGFloat? = nil) { fatalError() }
}
public struct VStackLayout: Layout {
    public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil) { fatalError() }
}
extension Layout {
    @MainActor public func callAsFunction<V>(@ViewBuilder _ content: () -> V) -> some View where V: View { Modified() }
}

public struct HorizontalAlignment: Equatable, Sendable {
    public static let leading = HorizontalAlignment()
    public static let center = HorizontalAlignment()
    public static let trailing = HorizontalAlignment()
}
public struct VerticalAlignment: Equatable, Sendable {
    public static let top = VerticalAlignment()
    public static let center = VerticalAlignment()
    public static let bottom = VerticalAlignment()
    public static let firstTextBaseline = VerticalAlignment()
}
public struct Alignment: Equatable, Sendable {
    public static let center = Alignment()
    public static let leading = Alignment()
    public static let bottom = Alignment()
    public static let topLeading = Alignment()
    public static let topTrailing = Alignment()
    public static let bottomLeading = Alignment()
    public static let bottomTrailing = Alignment()
}
public enum Edge: Int8, CaseIterable, Sendable {
    case top, leading, bottom, trailing
    public struct Set: OptionSet, Sendable {
        public let rawValue: Int8
        public init(rawValue: Int8) { self.rawValue = rawValue }
        public static let top = Set(rawValue: 1)
        public static let all = Set(rawValue: 15)
        public static let horizontal = Set(rawValue: 10)
        public static let vertical = Set(rawValue: 5)
    }
}

public struct HStack<Content>: Primitive where Content: View {
    public init(alignment: VerticalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> Content) {
        fatalError()
    }
}
public struct VStack<Content>: Primitive where Content: View {
    public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> Content)
    {
        fatalError()
    }
}
public struct ViewThatFits<Content>: Primitive where Content: View {
    nonisolated public init(in axes: Axis.Set = [.horizontal, .vertical], @ViewBuilder content: () -> Content) {
        fatalError()
    }
}
public struct Spacer: Primitive {
    nonisolated public init(minLength: CGFloat? = nil) { fatalError() }
}
public struct Group<Content> {}
extension Group: View, Primitive where Content: View {
    nonisolated public init(@ViewBuilder content: () -> Content) { fatalError() }
}
public struct GeometryProxy {
    public var size: CGSize { fatalError() }
}
public struct GeometryReader<Content>: Primitive where Content: View {
    nonisolated public init(@ViewBuilder content: @escaping (GeometryProxy) -> Content) { fatalError() }
}
public struct ScrollView<Content>: Primitive where Content: View {
    public init(_ axes: Axis.Set = .vertical, showsIndicators: Bool = true, @ViewBuilder content: () -> Content) {
        fatalError()
    }
}
public enum Axis: Int8, CaseIterable, Sendable {
    case horizontal, vertical
    public struct Set: OptionSet, Sendable {
        public let rawValue: Int8
        public init(rawValue: Int8) { self.rawValue = rawValue }
        public static let horizontal = Set(rawValue: 1)
        public static let vertical = Set(rawValue: 2)
    }
}
public struct NavigationStack<Data, Root>: Primitive where Root: View {
    public init(@ViewBuilder root: () -> Root) where Data == NavigationPath { fatalError() }
}
public struct NavigationPath {}
public struct TabView<SelectionValue, Content>: Primitive where SelectionValue: Hashable, Content: View {
    nonisolated public init(@ViewBuilder content: () -> Content) where SelectionValue == Int { fatalError() }
}
public struct List<SelectionValue, Content>: Primitive where SelectionValue: Hashable, Content: View {
    public init(@ViewBuilder content: () -> Content) where SelectionValue == Never { fatalError() }
}

public struct ForEach<Data, ID, Content> where Data: RandomAccessCollection, ID: Hashable {}
extension ForEach: View, Primitive where Content: View {}
extension ForEach where ID == Data.Element.ID, Content: View, Data.Element: Identifiable {
    public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> Content) { fatalError() }
}
extension ForEach where Content: View {
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> Content)
    { fatalError() }
}
public protocol DynamicViewContent: View {
    associatedtype Data: Collection
}
extension ForEach: DynamicViewContent where Content: View {}
extension DynamicViewContent {
    @preconcurrency
    nonisolated
        public func onDelete(perform action: (@MainActor (IndexSet) -> Void)?) -> some DynamicViewContent
    { self }
}
extension View {
    nonisolated public func deleteDisabled(_ isDisabled: Bool) -> some View { Modified() }
}

public struct ToolbarItemPlacement {
    public static var automatic: ToolbarItemPlacement { fatalError() }
    public static var topBarTrailing: ToolbarItemPlacement { fatalError() }
    public static var topBarLeading: ToolbarItemPlacement { fatalError() }
    public static var primaryAction: ToolbarItemPlacement { fatalError() }
}
@MainActor @preconcurrency public protocol ToolbarContent {}
public struct ToolbarItem<ID, Content>: ToolbarContent where Content: View {
    nonisolated public init(
        placement: ToolbarItemPlacement = .automatic, @ViewBuilder content: () -> Content
    ) where ID == () { fatalError() }
}
@resultBuilder public struct ToolbarContentBuilder {
    public static func buildExpression<Content>(_ content: Content) -> Content where Content: ToolbarContent { content }
    public static func buildBlock<Content>(_ content: Content) -> some ToolbarContent where Content: ToolbarContent {
        content
    }
    public static func buildBlock<C0, C1>(_ c0: C0, _ c1: C1) -> some ToolbarContent
    where C0: ToolbarContent, C1: ToolbarContent { c0 }
}
extension View {
    nonisolated public func toolbar<Content>(@ToolbarContentBuilder content: () -> Content) -> some View
    where Content: ToolbarContent {
        Modified()
    }
}
