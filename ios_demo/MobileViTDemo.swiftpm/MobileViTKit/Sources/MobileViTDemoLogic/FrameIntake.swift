import Foundation
import MobileViTKit

/// A picture of the model's size, on its way to the engine.
public struct PreparedFrame: Sendable {
    public let picture: Picture
    /// That resizing and cropping took.
    public let milliseconds: Double
    /// Of the upright picture before it was resized, in pixels.
    let width: Int, height: Int
    /// The place of the entry that it was resized for.
    let entry: Int
    let opening: Int
}

/// Takes one frame at a time: while it is resized and classified, others are dropped, so that no frame waits and what is
/// shown is never old. Any thread may call it.
public final class FrameIntake: @unchecked Sendable {
    private let lock = NSLock()
    private var entries: [EntryPoint] = []
    /// In the order of the entries; none while nothing is open.
    private var preprocessors: [Preprocessor] = []
    private var openings = 0
    private var isBusy = false
    private var isPaused = false

    /// Frames come for a model of these entries from now on, each for the one that it takes; those before are not current
    /// any more.
    func open(_ entries: [EntryPoint], isPaused: Bool) {
        lock.withLock {
            openings += 1
            self.entries = entries
            preprocessors = entries.map { Preprocessor($0.input) }
            self.isPaused = isPaused
            isBusy = false
        }
    }

    /// No frames are taken until `resume`, and those on their way are not current any more.
    func pause() { setPaused(true) }
    func resume() { setPaused(false) }

    private func setPaused(_ isPaused: Bool) {
        lock.withLock {
            openings += 1
            self.isPaused = isPaused
            isBusy = false
        }
    }

    func close() {
        lock.withLock {
            openings += 1
            (entries, preprocessors) = ([], [])
        }
    }

    /// Resizes a frame that lies in memory; nil where it is dropped. Every frame that is not nil needs `done`, which
    /// `ClassifyModel.classify` calls.
    ///
    /// Throws `KitError.picture` where the memory does not hold such a picture.
    public func take(_ memory: UnsafeRawBufferPointer, _ layout: PixelLayout) throws -> PreparedFrame? {
        try lock.withLock {
            guard !preprocessors.isEmpty, !isBusy, !isPaused else { return nil }
            let start = ContinuousClock.now
            let entry = entries.nearest(width: layout.width, height: layout.height)
            let preprocessor = preprocessors[entry]
            var picture = Picture(width: preprocessor.input.width, height: preprocessor.input.height)
            try preprocessor.prepare(memory, layout, into: &picture)
            isBusy = true
            return PreparedFrame(
                picture: picture, milliseconds: (ContinuousClock.now - start).milliseconds, width: layout.width,
                height: layout.height, entry: entry, opening: openings)
        }
    }

    /// The same of a photograph, which is never dropped.
    func prepare(_ pixels: [UInt8], _ layout: PixelLayout) async throws -> PreparedFrame? {
        let (entries, opening) = lock.withLock { (self.entries, openings) }
        guard !entries.isEmpty else { return nil }
        let start = ContinuousClock.now
        let entry = entries.nearest(width: layout.width, height: layout.height)
        let input = entries[entry].input
        var picture = Picture(width: input.width, height: input.height)
        try pixels.withUnsafeBytes { try Preprocessor(input).prepare($0, layout, into: &picture) }
        return PreparedFrame(
            picture: picture, milliseconds: (ContinuousClock.now - start).milliseconds, width: layout.width,
            height: layout.height, entry: entry, opening: opening)
    }

    func isCurrent(_ frame: PreparedFrame) -> Bool { lock.withLock { frame.opening == openings } }

    func done(_ frame: PreparedFrame) {
        lock.withLock {
            if frame.opening == openings { isBusy = false }
        }
    }
}

extension Duration {
    var milliseconds: Double { Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15 }
}
