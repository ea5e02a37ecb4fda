package dev.mobilevit.core

/** The order of an input's values in memory. */
enum class Layout { NCHW, NHWC }

/** How a photograph becomes the picture that a file takes: see `Resizer`. */
data class Resizing(
    val squash: Boolean,
    /** What the shorter side is brought to, in pixels; not used where the picture is squashed. */
    val shorterSide: Int,
    val filter: Filter,
    val height: Int,
    val width: Int,
)

/** What an app feeds: one image, RGB, float32, in [low, high]; mean and std are in the graph. */
data class AppInput(
    val name: String,
    val layout: Layout,
    val height: Int,
    val width: Int,
    val low: Float,
    val high: Float,
    val resizing: Resizing,
)

/** What an app needs of `manifest.json`. */
data class Manifest(
    val file: String,
    /** "tflite" or "executorch". */
    val format: String,
    /** Of the file, such as "fp32" or "int8". */
    val precision: String,
    val backend: String?,
    val bytes: Long,
    val sha256: String,
    val model: String,
    val labels: List<String>?,
    /** Whether the conversion judged it too bad to ship. */
    val rejected: Boolean,
    val input: AppInput,
)
