extension View {
    // Layout
    nonisolated public func frame(width: CGFloat? = nil, height: CGFloat? = nil, alignment: Alignment = .center)
        -> some View
    { Modified() }
    nonisolated public func frame(
        minWidth: CGFloat? = nil, idealWidth: CGFloat? = nil, maxWidth: CGFloat? = nil, minHeight: CGFloat? = nil,
        idealHeight: CGFloat? = nil, maxHeight: CGFloat? = nil, alignment: Alignment = .center
    ) -> some View { Modified() }
    nonisolated public func padding(_ edges: Edge.Set = .all, _ length: CGFloat? = nil) -> some View { Modified() }
    nonisolated public func padding(_ length: CGFloat) -> some View { Modified() }
    nonisolated public func aspectRatio(_ aspectRatio: CGFloat? = nil, contentMode: ContentMode) -> some View {
        Modified()
    }
    nonisolated public func scaledToFill() -> some View { Modified() }
    nonisolated public func scaledToFit() -> some View { Modified() }
    nonisolated public func clipped(antialiased: Bool = false) -> some View { Modified() }
    nonisolated public func overlay<V>(alignment: Alignment = .center, @ViewBuilder content: () -> V) -> some View
    where V: View { Modified() }
    nonisolated public func layoutPriority(_ value: Double) -> some View { Modified() }
    nonisolated public func offset(x: CGFloat = 0, y: CGFloat = 0) -> some View { Modified() }
    nonisolated public func fixedSize() -> some View { Modified() }

    // Looks
    nonisolated public func font(_ font: Font?) -> some View { Modified() }
    nonisolated public func fontWeight(_ weight: Font.Weight?) -> some View { Modified() }
    nonisolated public func monospacedDigit() -> some View { Modified() }
    nonisolated public func foregroundStyle<S>(_ style: S) -> some View where S: ShapeStyle { Modified() }
    nonisolated public func background<S, T>(_ style: S, in shape: T) -> some View where S: ShapeStyle, T: Shape {
        Modified()
    }
    nonisolated public func tint(_ tint: Color?) -> some View { Modified() }
    nonisolated public func opacity(_ opacity: Double) -> some View { Modified() }
    nonisolated public func buttonStyle<S>(_ style: S) -> some View where S: PrimitiveButtonStyle { Modified() }
    nonisolated public func multilineTextAlignment(_ alignment: TextAlignment) -> some View { Modified() }
    nonisolated public func labelStyle(_ style: TitleAndIconLabelStyle) -> some View { Modified() }

    // Navigation
    nonisolated public func navigationTitle(_ titleKey: LocalizedStringKey) -> some View { Modified() }
    @_disfavoredOverload nonisolated public func navigationTitle<S>(_ title: S) -> some View where S: StringProtocol {
        Modified()
    }
    nonisolated public func navigationBarTitleDisplayMode(_ displayMode: NavigationBarItem.TitleDisplayMode)
        -> some View
    { Modified() }
    nonisolated public func tabItem<V>(@ViewBuilder _ label: () -> V) -> some View where V: View { Modified() }
    nonisolated public func fileImporter(
        isPresented: Binding<Bool>, allowedContentTypes: [UTType],
        onCompletion: @escaping (Result<URL, any Error>) -> Void
    ) -> some View { Modified() }

    // Behavior
    nonisolated public func disabled(_ disabled: Bool) -> some View { Modified() }
    nonisolated public func environment<T>(_ object: T?) -> some View where T: AnyObject, T: Observable { Modified() }
    @preconcurrency nonisolated public func task(
        priority: TaskPriority = .userInitiated, @_inheritActorContext _ action: @escaping @Sendable () async -> Void
    ) -> some View { Modified() }
    @preconcurrency nonisolated public func task<T>(
        id value: T, priority: TaskPriority = .userInitiated,
        @_inheritActorContext _ action: @escaping @Sendable () async -> Void
    ) -> some View where T: Equatable { Modified() }
    nonisolated public func onChange<V>(of value: V, initial: Bool = false, _ action: @escaping () -> Void) -> some View
    where V: Equatable {
        Modified()
    }
    nonisolated public func onChange<V>(
        of value: V, initial: Bool = false, _ action: @escaping (_ oldValue: V, _ newValue: V) -> Void
    ) -> some View where V: Equatable { Modified() }
    nonisolated public func onDisappear(perform action: (() -> Void)? = nil) -> some View { Modified() }

    // Accessibility
    nonisolated public func accessibilityLabel(_ labelKey: LocalizedStringKey) -> some View { Modified() }
    @_disfavoredOverload nonisolated public func accessibilityLabel<S>(_ label: S) -> some View
    where S: StringProtocol { Modified() }
    nonisolated public func accessibilityValue(_ valueKey: LocalizedStringKey) -> some View { Modified() }
    @_disfavoredOverload nonisolated public func accessibilityValue<S>(_ value: S) -> some View
    where S: StringProtocol { Modified() }
    nonisolated public func accessibilityHint(_ hintKey: LocalizedStringKey) -> some View { Modified() }
    nonisolated public func accessibilityHidden(_ hidden: Bool) -> some View { Modified() }
    nonisolated public func accessibilityElement(children: AccessibilityChildBehavior = .ignore) -> some View {
        Modified()
    }
    nonisolated public func accessibilityAddTraits(_ traits: AccessibilityTraits) -> some View { Modified() }
}
public enum TextAlignment: Hashable, CaseIterable, Sendable {
    case leading, center, trailing
}
public struct TitleAndIconLabelStyle: Sendable {}
