import MobileViTDemoLogic
import SwiftUI

/// A detector's boxes with their labels, over a picture that the view shows whole, or cut to its shape where it `fills`.
struct BoxesView: View {
    let found: FoundObjects
    let fills: Bool

    /// Points above a box that its label takes; with less room it stands within.
    private static let labelHeight = 20.0

    var body: some View {
        GeometryReader { proxy in
            // The surest lies on top.
            ForEach(found.objects.reversed()) { object in
                let frame = found.frame(of: object, in: proxy.size, fills: fills)
                RoundedRectangle(cornerRadius: 5)
                    .stroke(.black.opacity(0.5), lineWidth: 4)
                    .frame(width: frame.width, height: frame.height)
                    .offset(x: frame.minX, y: frame.minY)
                RoundedRectangle(cornerRadius: 5)
                    .stroke(Color(object.color), lineWidth: 2)
                    .frame(width: frame.width, height: frame.height)
                    .offset(x: frame.minX, y: frame.minY)
                label(object)
                    .frame(width: frame.width, height: 0, alignment: place(of: frame, in: proxy.size))
                    .offset(x: frame.minX, y: frame.minY)
            }
        }
    }

    private func label(_ object: FoundObjects.Object) -> some View {
        Text(object.caption)
            .font(.caption.weight(.bold).monospacedDigit())
            .foregroundStyle(.black)
            .padding(.horizontal, 5)
            .background(Color(object.color), in: RoundedRectangle(cornerRadius: 5))
            .fixedSize()
    }

    /// A label grows upwards from the box's top, or downwards at the upper edge, and to the left near the right edge.
    private func place(of frame: CGRect, in size: CGSize) -> Alignment {
        switch (frame.minY < Self.labelHeight, frame.midX > 0.6 * size.width) {
        case (true, true): .topTrailing
        case (true, false): .topLeading
        case (false, true): .bottomTrailing
        case (false, false): .bottomLeading
        }
    }
}

extension Color {
    init(_ color: BoxColor) {
        self.init(hue: color.hue, saturation: color.saturation, brightness: color.brightness)
    }
}
