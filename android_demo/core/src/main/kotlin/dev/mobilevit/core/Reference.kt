package dev.mobilevit.core

/** One reference image: an edge case, such as noise, does not count for files of integers. */
data class ReferenceCase(val name: String, val edge: Boolean)

/** `reference.safetensors`: images as the app has them after resizing, and PyTorch's answers. */
class Reference internal constructor(
    val cases: List<ReferenceCase>,
    /** "logits", or "features" of a network without a classifier. */
    val output: String,
    val width: Int,
    val height: Int,
    /** How many numbers one answer has. */
    val answerSize: Int,
    /** Of the bytes of the file. */
    val sha256: String,
) {
    fun image(index: Int): Picture = TODO()

    fun answer(index: Int): FloatArray = TODO()
}
