import AVFoundation
import SwiftUI
import UIKit

/// The camera's picture, upright whichever way the device is held.
struct CameraPreview: UIViewRepresentable {
    let camera: Camera

    func makeUIView(context: Context) -> PreviewView {
        PreviewView(camera: camera)
    }

    func updateUIView(_ view: PreviewView, context: Context) {
        view.setNeedsLayout()
    }
}

final class PreviewView: UIView {
    private let camera: Camera
    private let preview: AVCaptureVideoPreviewLayer
    private let level: AVCaptureDevice.RotationCoordinator?

    init(camera: Camera) {
        self.camera = camera
        preview = AVCaptureVideoPreviewLayer(session: camera.session)
        preview.videoGravity = .resizeAspectFill
        let layer = preview
        level = Camera.device.map { AVCaptureDevice.RotationCoordinator(device: $0, previewLayer: layer) }
        super.init(frame: .zero)
        self.layer.addSublayer(preview)
    }

    @available(*, unavailable)
    required init?(coder: NSCoder) { nil }

    /// Runs when the device is turned: what the model gets is turned as what is shown.
    override func layoutSubviews() {
        super.layoutSubviews()
        preview.frame = bounds
        guard let angle = level?.videoRotationAngleForHorizonLevelPreview else { return }
        if let connection = preview.connection, connection.isVideoRotationAngleSupported(angle) {
            connection.videoRotationAngle = angle
        }
        camera.turn(by: angle)
    }
}
