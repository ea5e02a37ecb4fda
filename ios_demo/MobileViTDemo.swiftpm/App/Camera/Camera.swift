import AVFoundation
import MobileViTDemoLogic
import MobileViTKit

/// The back camera. Its frames go upright and one at a time to `intake`; late ones are dropped by the system, and those
/// that come while one is classified by `intake`.
///
/// The session and what belongs to it are used on `queue` alone.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable {
    let session = AVCaptureSession()
    private let output = AVCaptureVideoDataOutput()
    private let queue = DispatchQueue(label: "dev.mobilevit.camera")
    private var isSetUp = false
    private let intake: FrameIntake
    private let onFrame: @Sendable (PreparedFrame) -> Void
    private let onProblem: @Sendable (String?) -> Void

    /// `onProblem` gets why no frames come, and nil when they come again.
    init(
        intake: FrameIntake, onFrame: @escaping @Sendable (PreparedFrame) -> Void,
        onProblem: @escaping @Sendable (String?) -> Void
    ) {
        self.intake = intake
        self.onFrame = onFrame
        self.onProblem = onProblem
    }

    static var device: AVCaptureDevice? { .default(.builtInWideAngleCamera, for: .video, position: .back) }

    /// Starts the camera, which is set up the first time. Throws `KitError.picture` where there is none.
    func start() async throws {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                continuation.resume(with: Result { try self.startOnQueue() })
            }
        }
    }

    func stop() {
        queue.async {
            if self.session.isRunning { self.session.stopRunning() }
        }
    }

    /// Turns the frames by this angle from now on, in degrees.
    func turn(by angle: CGFloat) {
        queue.async {
            guard let connection = self.output.connection(with: .video),
                connection.isVideoRotationAngleSupported(angle)
            else { return }
            connection.videoRotationAngle = angle
        }
    }

    private func startOnQueue() throws {
        if !isSetUp { try setUp() }
        if !session.isRunning { session.startRunning() }
    }

    private func setUp() throws {
        guard let device = Self.device else { throw KitError.picture("This device has no camera.") }
        let input = try AVCaptureDeviceInput(device: device)
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        guard session.canAddInput(input), session.canAddOutput(output) else {
            throw KitError.picture("The camera cannot be used now.")
        }
        // More pixels than a model takes; a full picture would take long to resize.
        if session.canSetSessionPreset(.hd1280x720) { session.sessionPreset = .hd1280x720 }
        output.alwaysDiscardsLateVideoFrames = true
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.setSampleBufferDelegate(self, queue: queue)
        session.addInput(input)
        session.addOutput(output)
        report(AVCaptureSession.wasInterruptedNotification, "Another app uses the camera, or the screen is shared.")
        report(AVCaptureSession.interruptionEndedNotification, nil)
        report(AVCaptureSession.runtimeErrorNotification, "The camera stopped. Leave this screen and come back.")
        isSetUp = true
    }

    /// A camera lives as long as the app, so that nothing has to be unsubscribed.
    private func report(_ notification: Notification.Name, _ problem: String?) {
        _ = NotificationCenter.default.addObserver(forName: notification, object: session, queue: nil) {
            [onProblem] _ in onProblem(problem)
        }
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        guard let buffer = CMSampleBufferGetImageBuffer(sampleBuffer) else { return }
        do {
            if let frame = try intake.take(buffer) { onFrame(frame) }
        } catch {
            onProblem(explain(error))
        }
    }
}

extension FrameIntake {
    /// The same of a BGRA pixel buffer, which is upright. Its memory is read in place.
    func take(_ buffer: CVPixelBuffer) throws -> PreparedFrame? {
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        guard let start = CVPixelBufferGetBaseAddress(buffer) else { return nil }
        let height = CVPixelBufferGetHeight(buffer), bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
        let layout = try PixelLayout(
            width: CVPixelBufferGetWidth(buffer), height: height, bytesPerRow: bytesPerRow, format: .bgra
        )
        return try take(UnsafeRawBufferPointer(start: start, count: height * bytesPerRow), layout)
    }
}
