package dev.mobilevit.core

import java.util.concurrent.Executor
import java.util.concurrent.RejectedExecutionException
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicLong

/**
 * Classifies a camera's frames on [worker], a single thread, which also opened the classifier's
 * engine. A frame that comes while another is worked on is dropped, never queued. [onResult] and
 * [onError] are called on the worker.
 */
class LiveClassifier(
    private val classifier: Classifier,
    private val worker: Executor,
    private val onResult: (Classification) -> Unit,
    private val onError: (Exception) -> Unit,
) : AutoCloseable {
    private val isBusy =
        AtomicBoolean(false) // whoever sets it owns the pictures, until the worker unsets it
    private val droppedFrames = AtomicLong()
    private var stored: Picture? = null
    private var turned: Picture? = null

    @Volatile private var isClosed = false

    /** Frames that were dropped. */
    val dropped: Long
        get() = droppedFrames.get()

    /**
     * Takes a frame, or drops it and returns false without calling [write]. [write] puts the
     * frame's pixels, as stored, into the picture that it is given, before this returns;
     * [orientation] is how they are turned upright.
     */
    fun offer(width: Int, height: Int, orientation: Int, write: (Picture) -> Unit): Boolean {
        if (isClosed || !isBusy.compareAndSet(false, true)) {
            droppedFrames.incrementAndGet()
            return false
        }
        var isTaken = false
        try {
            val frame = reuse(stored, width, height).also { stored = it }
            write(frame)
            worker.execute { work(frame, orientation) }
            isTaken = true
        } catch (_: RejectedExecutionException) {
            droppedFrames.incrementAndGet() // the worker has ended
        } finally {
            if (!isTaken) isBusy.set(false)
        }
        return isTaken
    }

    /**
     * Takes no more frames; nothing is told of one that is worked on. Closes neither the engine nor
     * the worker.
     */
    override fun close() {
        isClosed = true
    }

    private fun work(frame: Picture, orientation: Int) {
        try {
            if (isClosed) return
            val result = classifier.classify(upright(frame, orientation))
            if (!isClosed) onResult(result)
        } catch (error: Exception) {
            if (!isClosed) onError(error)
        } finally {
            isBusy.set(false)
        }
    }

    private fun upright(frame: Picture, orientation: Int): Picture {
        if (orientation !in 2..8) return frame
        val swaps = Orientation.swapsSides(orientation)
        val into =
            reuse(
                turned,
                if (swaps) frame.height else frame.width,
                if (swaps) frame.width else frame.height,
            )
        Orientation.upright(frame, orientation, into)
        turned = into
        return into
    }

    private fun reuse(picture: Picture?, width: Int, height: Int): Picture =
        picture?.takeIf { it.width == width && it.height == height } ?: Picture(width, height)
}
