import AVFoundation
import SwiftUI
import UIKit

/// The camera's picture, upright whichever way the device is held.
struct CameraPreview: UIViewRepresentable {
    let camera: Camera
    /// Whether the middle of the picture fills the view, or all of it is shown.
    let fills: Bool

    func makeUIView(context: Context) -> PreviewView {
        PreviewView(camera: camera)
    }

    func updateUIView(_ view: PreviewView, context: Context) {
        view.preview.videoGravity = fills ? .resizeAspectFill : .resizeAspect
    }
}

final class PreviewView: UIView {
    private let camera: Camera
    let preview: AVCaptureVideoPreviewLayer
    private var level: AVCaptureDevice.RotationCoordinator?
    private var turning: [NSKeyValueObservation] = []

    init(camera: Camera) {
        self.camera = camera
        preview = AVCaptureVideoPreviewLayer(session: camera.session)
        super.init(frame: .zero)
        layer.addSublayer(preview)
    }

    @available(*, unavailable)
    required init?(coder: NSCoder) { nil }

    /// The coordinator gives 0 degrees for a layer that is in no window yet.
    override func didMoveToWindow() {
        super.didMoveToWindow()
        (turning, level) = ([], nil)
        guard window != nil, let device = Camera.device else { return }
        let level = AVCaptureDevice.RotationCoordinator(device: device, previewLayer: preview)
        self.level = level
        turning = [
            level.observe(\.videoRotationAngleForHorizonLevelPreview, options: [.initial, .new]) {
                @Sendable [weak self] _, change in
                guard let angle = change.newValue else { return }
                Task { @MainActor in self?.turn(by: angle) }
            },
            // What the model gets is upright by gravity, also where the screen is locked to stay as it is.
            level.observe(\.videoRotationAngleForHorizonLevelCapture, options: [.initial, .new]) {
                @Sendable [camera] _, change in
                if let angle = change.newValue { camera.turn(by: angle) }
            },
        ]
    }

    override func layoutSubviews() {
        super.layoutSubviews()
        preview.frame = bounds
    }

    private func turn(by angle: CGFloat) {
        guard let connection = preview.connection, connection.isVideoRotationAngleSupported(angle) else { return }
        connection.videoRotationAngle = angle
    }
}
