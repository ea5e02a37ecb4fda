package dev.mobilevit.core

import java.util.concurrent.Executor

/**
 * Classifies a camera's frames on [worker], a single thread, which also opened the classifier's engine. A frame that
 * comes while another is worked on is dropped, never queued.
 */
class LiveClassifier(
    private val classifier: Classifier,
    private val worker: Executor,
    private val onResult: (Classification) -> Unit,
    private val onError: (Exception) -> Unit,
) : AutoCloseable {
    /**
     * Takes a frame, or drops it and returns false without calling [write]. [write] puts the frame's pixels, as stored,
     * into the picture that it is given, before this returns; [orientation] is how they are turned upright.
     */
    fun offer(width: Int, height: Int, orientation: Int, write: (Picture) -> Unit): Boolean = TODO()

    /** Frames that were dropped. */
    val dropped: Long get() = TODO()

    /** Takes no more frames; results of one that is worked on are not told. Does not close the engine or the worker. */
    override fun close() { TODO() }
}
