package dev.mobilevit.core

import kotlin.math.exp

/** One class of a classifier's answer. */
data class Score(val index: Int, val label: String, val probability: Float)

/**
 * Probabilities of scores before softmax. Of a single score, the probability of yes: its logistic
 * function.
 */
fun softmax(scores: FloatArray): FloatArray {
    if (scores.size == 1) return floatArrayOf((1 / (1 + exp(-scores[0].toDouble()))).toFloat())
    val largest = scores.max().toDouble()
    val exponentials = DoubleArray(scores.size) { exp(scores[it] - largest) }
    val sum = exponentials.sum()
    return FloatArray(scores.size) { (exponentials[it] / sum).toFloat() }
}

/**
 * The [k] best classes, best first, equal ones by index. Without labels a class is named by its
 * number.
 */
fun topK(scores: FloatArray, labels: List<String>?, k: Int = 5): List<Score> {
    require(k > 0 && scores.isNotEmpty() && (labels == null || labels.size == scores.size)) {
        "the best $k of ${scores.size} scores with ${labels?.size} labels"
    }
    val probabilities = softmax(scores)
    return scores.indices
        .sortedByDescending { scores[it] }
        .take(k)
        .map {
            Score(it, labels?.get(it) ?: "class $it", probabilities[it])
        }
}
