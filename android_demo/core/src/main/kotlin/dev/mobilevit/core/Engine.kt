package dev.mobilevit.core

/** Where an engine computes, by the word that device reports have for it. */
enum class Accelerator(val word: String) {
    CPU("cpu"),
    GPU("gpu"),
    NPU("npu"),
}

/**
 * A file that is loaded into a runtime on one accelerator.
 *
 * Opening one throws [EngineException] where the accelerator is missing or refuses the file: an
 * engine never falls back to another silently. All calls come from one thread, that which opened
 * it.
 */
interface Engine : AutoCloseable {
    /** "litert", "tflite" or "executorch". */
    val runtime: String

    /** Null where the runtime does not tell. */
    val runtimeVersion: String?

    val accelerator: Accelerator

    /** The arithmetic asked of the accelerator, "fp32" or "fp16"; null where it was not asked. */
    val precision: String?

    /** Whether all of the graph runs on [accelerator]; null where the runtime does not tell. */
    val fullyAccelerated: Boolean?

    /**
     * The scores of one image, a new array, all outputs one after the other as [Manifest.heads] has
     * them: [input] has the size and order of the [AppInput] of that of [Manifest.entries] which
     * stands at [entry]. Returns when the scores have been read back. Throws [EngineException] where
     * the runtime fails.
     */
    fun run(input: FloatArray, entry: Int = 0): FloatArray

    override fun close()
}

/** Why a runtime does not load or run a file, in one line for people. */
class EngineException(message: String, cause: Throwable? = null) : Exception(message, cause)
