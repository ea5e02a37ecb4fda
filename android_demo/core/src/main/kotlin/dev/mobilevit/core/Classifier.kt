package dev.mobilevit.core

/** An answer and how long it took, in milliseconds: inference is the run and the reading back of its scores. */
class Classification(val top: List<Score>, val scores: FloatArray, val preprocessingMs: Double, val inferenceMs: Double)

/**
 * From an upright picture to the best classes. Buffers are made once for each size of picture. One thread at a time:
 * that of the engine. It does not close the engine.
 */
class Classifier(val artifact: ArtifactFolder, val engine: Engine, val k: Int = 5) {
    fun classify(picture: Picture): Classification = TODO()

    /** Warms up [warmUp] times and measures [samples] times, on [picture]; for the report. */
    fun measure(picture: Picture, warmUp: Int = 5, samples: Int = 50, isCancelled: () -> Boolean = { false }): Latency = TODO()
}
