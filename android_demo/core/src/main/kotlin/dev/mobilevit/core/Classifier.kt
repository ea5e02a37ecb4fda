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
    /** The place of the entry that answered, among [Manifest.entries]. */
    val entry: Int = 0,
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
 * sure of as [least]. Of several entries a picture takes the one with the nearest aspect ratio.
 * Buffers are made once for each entry and size of picture. One thread at a time: that of
 * the engine. It does not close the engine.
 */
class Classifier(
    val artifact: ArtifactFolder,
    val engine: Engine,
    val k: Int = 5,
    val least: Float = LEAST_PROBABILITY,
) {
    private val manifest = artifact.manifest
    private val preparations = manifest.entries.map { Preparation(it.input) }

    init {
        require(manifest.output == "logits") {
            "${artifact.name} returns ${manifest.output}; only class scores and boxes can be shown"
        }
    }

    /**
     * Asks the entry at [entry], of its own accord the one that the picture takes. Throws
     * [EngineException] where the runtime fails or answers anything but a finite score for each
     * class.
     */
    fun classify(
        picture: Picture,
        entry: Int = manifest.entries.nearest(picture.width, picture.height),
    ): Classification {
        val start = System.nanoTime()
        val preparation = preparations[entry]
        val values = preparation.prepare(picture)
        val between = System.nanoTime()
        val scores = engine.run(values, entry)
        val end = System.nanoTime()
        checkAnswer(scores, manifest.heads.sumOf { it.values })
        if (manifest.queries > 0) {
            return Classification(
                emptyList(),
                emptyMap(),
                scores,
                milliseconds(start, between),
                milliseconds(between, end),
                detections(scores, manifest, preparation.resizer!!, least),
                entry,
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
            entry = entry,
        )
    }

    /**
     * Runs [warmUp] times, then measures [samples] times, on an upright [picture], and so each
     * entry. [progress] is told done and total after each; [isCancelled] is asked before each, and
     * true throws CancellationException.
     */
    fun measure(
        picture: Picture,
        warmUp: Int = 5,
        samples: Int = 50,
        progress: (done: Int, total: Int) -> Unit = { _, _ -> },
        isCancelled: () -> Boolean = { false },
    ): Latency {
        val rounds = warmUp + samples
        val found = manifest.entries.indices.map { entry ->
            val inference = ArrayList<Double>(samples)
            val total = ArrayList<Double>(samples)
            for (round in 0 until rounds) {
                if (isCancelled()) throw CancellationException("measuring was cancelled")
                val one = classify(picture, entry)
                if (round >= warmUp) {
                    inference += one.inferenceMs
                    total += one.preprocessingMs + one.inferenceMs
                }
                progress(entry * rounds + round + 1, manifest.entries.size * rounds)
            }
            Latency(warmUp, Samples(inference), Samples(total))
        }
        if (found.size == 1) return found[0]
        val named = manifest.entries.map { it.name!! }.zip(found).toMap()
        return found[0].run { Latency(warmUp, inference, this.withPreprocessing, named) }
    }

    private fun milliseconds(start: Long, end: Long): Double = (end - start) / 1e6
}

/** From pictures to the values of one entry's input. */
private class Preparation(private val input: AppInput) {
    private val values = FloatArray(input.values)
    private val resized = Picture(input.width, input.height)
    /** That of the last picture. */
    var resizer: Resizer? = null
        private set

    /** The values, until the next call. */
    fun prepare(picture: Picture): FloatArray {
        val fitting =
            resizer?.takeIf { it.sourceWidth == picture.width && it.sourceHeight == picture.height }
                ?: Resizer(input.resizing, picture.width, picture.height).also { resizer = it }
        fitting.resize(picture, resized)
        input.fill(resized, values)
        return values
    }
}

internal fun checkAnswer(answer: FloatArray, expected: Int) {
    if (answer.size != expected) {
        throw EngineException("the file answered ${answer.size} numbers, expected $expected")
    }
}
