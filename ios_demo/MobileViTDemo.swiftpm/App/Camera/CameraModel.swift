import AVFoundation
import MobileViTDemoLogic
import MobileViTKit
import Observation

/// Whether the camera may be used, and what it is doing.
@MainActor @Observable
final class CameraModel {
    enum Access: Equatable {
        case unknown, running, refused
        case failed(String)
    }

    private(set) var access = Access.unknown
    private(set) var camera: Camera?
    private var runs = 0

    /// Asks for the camera where iOS has not yet, and classifies its frames until the task is cancelled.
    func run(_ model: ClassifyModel) async {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            access = .refused
            return
        }
        // The question itself makes the app inactive, which cancels this task; the one that follows starts the camera.
        guard !Task.isCancelled else { return }
        let camera =
            camera
            ?? Camera(
                intake: model.intake,
                onFrame: { frame in Task { await model.classify(frame) } },
                onProblem: { [weak self] problem in
                    Task { @MainActor in self?.access = problem.map(Access.failed) ?? .running }
                }
            )
        self.camera = camera
        runs += 1
        let run = runs
        do {
            try await camera.start()
            access = .running
        } catch {
            access = .failed(explain(error))
            return
        }
        // A run that has begun meanwhile keeps the camera.
        defer { if run == runs { camera.stop() } }
        // Frames come on the camera's own queue; this waits for the screen to go.
        while !Task.isCancelled { try? await Task.sleep(for: .seconds(3600)) }
    }
}
