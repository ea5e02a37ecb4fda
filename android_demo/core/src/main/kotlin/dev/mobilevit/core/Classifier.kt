package dev.mobilevit.core

import java.util.concurrent.CancellationException

/**
 * An answer and how long it took, in milliseconds: inference is the run and the reading back of its
 * scores. A detector's has [objects], and no best classes of the picture.
 */
class Classification(
    val top: List<Score>,
    /** The best classes of each task beside the network's own, by its name. */
    val tasks: Map<String, List<Score>>,
    val scores: FloatArray,
    val preprocessingMs: Double,
    val inferenceMs: Double,
    /** What a detector finds, the surest first; null of any other network. */
    val objects: List<Detection>? = null,
) {
    /**
     * What a screen lists: the best classes, where there are tasks three of each, which it names,
     * or what a detector finds.
     */
    val shown: List<Score>
        get() =
            if (objects != null)
                objects.take(LISTED).map { Score(it.index, it.label, it.probability) }
            else if (tasks.isEmpty()) top
            else
                top.take(OF_EACH) +
                    tasks.flatMap { (name, scores) ->
                        scores.take(OF_EACH).map { it.copy(label = "$name: ${it.label}") }
                    }

    private companion object {
        const val OF_EACH = 3
        const val LISTED = 10
    }
}

/**
 * From an upright picture to the [k] best classes, or to the objects that a detector is at least as
 * sure of as [least]. Buffers are made once for each size of picture. One thread at a time: that of
 * the engine. It does not close the engine.
 */
class Classifier(
    val artifact: ArtifactFolder,
    val engine: Engine,
    val k: Int = 5,
    val least: Float = LEAST_PROBABILITY,
) {
    private val manifest = artifact.manifest
    private val input = manifest.input
    private val values = FloatArray(input.values)
    private val resized = Picture(input.width, input.height)
    private var resizer: Resizer? = null

    init {
        require(manifest.output == "logits") {
            "${artifact.name} returns ${manifest.output}; only class scores and boxes can be shown"
        }
    }

    /**
     * Throws [EngineException] where the runtime fails or answers anything but a finite score for
     * each class.
     */
    fun classify(picture: Picture): Classification {
        val start = System.nanoTime()
        preprocess(picture)
        val between = System.nanoTime()
        val scores = engine.run(values)
        val end = System.nanoTime()
        checkAnswer(scores, manifest.heads.sumOf { it.values })
        if (manifest.queries > 0) {
            return Classification(
                emptyList(),
                emptyMap(),
                scores,
                milliseconds(start, between),
                milliseconds(between, end),
                detections(scores, manifest, resizer!!, least),
            )
        }
        if (scores.any { it.isNaN() || it.isInfinite() }) {
            throw EngineException("${engine.runtime} answered scores that are not finite")
        }
        var next = 0
        val best =
            manifest.heads.associate { head ->
                next += head.classes
                val own = scores.copyOfRange(next - head.classes, next)
                head.name to topK(own, head.labels, k)
            }
        return Classification(
            best.getValue(manifest.output),
            best - manifest.output,
            scores,
            milliseconds(start, between),
            milliseconds(between, end),
        )
    }

    /**
     * Runs [warmUp] times, then measures [samples] times, on an upright [picture]. [progress] is
     * told done and total after each; [isCancelled] is asked before each, and true throws
     * CancellationException.
     */
    fun measure(
        picture: Picture,
        warmUp: Int = 5,
        samples: Int = 50,
        progress: (done: Int, total: Int) -> Unit = { _, _ -> },
        isCancelled: () -> Boolean = { false },
    ): Latency {
        val inference = ArrayList<Double>(samples)
        val total = ArrayList<Double>(samples)
        for (round in 0 until warmUp + samples) {
            if (isCancelled()) throw CancellationException("measuring was cancelled")
            val one = classify(picture)
            if (round >= warmUp) {
                inference += one.inferenceMs
                total += one.preprocessingMs + one.inferenceMs
            }
            progress(round + 1, warmUp + samples)
        }
        return Latency(warmUp, Samples(inference), Samples(total))
    }

    private fun preprocess(picture: Picture) {
        val fitting =
            resizer?.takeIf { it.sourceWidth == picture.width && it.sourceHeight == picture.height }
                ?: Resizer(input.resizing, picture.width, picture.height).also { resizer = it }
        fitting.resize(picture, resized)
        input.fill(resized, values)
    }

    private fun milliseconds(start: Long, end: Long): Double = (end - start) / 1e6
}

internal fun checkAnswer(answer: FloatArray, expected: Int) {
    if (answer.size != expected) {
        throw EngineException("the file answered ${answer.size} numbers, expected $expected")
    }
}
