package dev.mobilevit.core

/** From which probability on an object is shown. */
const val LEAST_PROBABILITY = 0.7f

/**
 * An object that a detector finds. Edges are shares of the upright picture, from its left and its
 * top.
 */
data class Detection(
    val index: Int,
    val label: String,
    val probability: Float,
    val left: Float,
    val top: Float,
    val right: Float,
    val bottom: Float,
)

/**
 * The objects of an answer that are at least as sure as [least], the surest first. No two queries
 * answer for one object, so none is suppressed. [resizer] is the one that made the input: boxes go
 * back through it. Throws [EngineException] where the answer is not finite.
 */
internal fun detections(
    answer: FloatArray,
    manifest: Manifest,
    resizer: Resizer,
    least: Float,
): List<Detection> {
    val (scores, boxes) = manifest.heads
    if (answer.any { !it.isFinite() }) {
        throw EngineException("the file answered what is not a number; verify it")
    }
    val found = ArrayList<Detection>()
    for (query in 0 until scores.rows) {
        val first = query * scores.classes
        val shares = softmax(answer.copyOfRange(first, first + scores.classes))
        val best = (0 until scores.classes - 1).maxBy { shares[it] } // the last is "no object"
        if (shares[best] < least) continue
        val (x, y, width, height) =
            List(boxes.classes) { answer[scores.values + query * boxes.classes + it].toDouble() }
        found +=
            Detection(
                best,
                scores.labels?.get(best) ?: "class $best",
                shares[best],
                resizer.across(x - width / 2),
                resizer.down(y - height / 2),
                resizer.across(x + width / 2),
                resizer.down(y + height / 2),
            )
    }
    return found.sortedByDescending { it.probability }
}
