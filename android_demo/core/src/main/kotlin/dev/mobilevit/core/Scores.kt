package dev.mobilevit.core

/** One class of a classifier's answer. */
data class Score(val index: Int, val label: String, val probability: Float)

/** Probabilities of scores before softmax. */
fun softmax(scores: FloatArray): FloatArray = TODO()

/** The [k] best classes, best first, equal ones by index. Without labels a class is named by its number. */
fun topK(scores: FloatArray, labels: List<String>?, k: Int = 5): List<Score> = TODO()
