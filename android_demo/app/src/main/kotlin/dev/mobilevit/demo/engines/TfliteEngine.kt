package dev.mobilevit.demo.engines

import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EntryPoint
import dev.mobilevit.core.Head
import dev.mobilevit.core.Kind
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.TensorFlowLite

private const val TITLE = "TFLite"

/**
 * The interpreter of TensorFlow Lite: LiteRT's forerunner, which most apps in the field still run.
 */
class TfliteBackend : Backend {
    override val runtime = "tflite"
    override val title = TITLE
    override val format = "tflite"
    override val accelerators = listOf(Accelerator.CPU)

    override fun missing(accelerator: Accelerator) =
        absent(TITLE, "org.tensorflow.lite.Interpreter")

    override fun open(artifact: ArtifactFolder, accelerator: Accelerator): Engine =
        TfliteEngine(artifact)
}

/** XNNPACK on as many threads as the runtime chooses. */
private class TfliteEngine(artifact: ArtifactFolder) : Engine {
    override val runtime = "tflite"
    override val runtimeVersion: String? =
        runtimeCall(TITLE, "does not load") { TensorFlowLite.runtimeVersion() }
    override val accelerator = Accelerator.CPU
    override val precision: String? = null
    override val fullyAccelerated = true

    private val interpreter =
        runtimeCall(TITLE, "refuses the file") {
            Interpreter(artifact.file, Interpreter.Options().setUseXNNPACK(true))
        }
    private val buffers: List<Buffers>

    init {
        try {
            buffers = artifact.manifest.entries.map { Buffers(interpreter, it, artifact.manifest.heads) }
        } catch (error: Exception) {
            interpreter.close()
            throw error
        }
    }

    override fun run(input: FloatArray, entry: Int): FloatArray =
        runtimeCall(TITLE, "fails") { buffers[entry].run(input) }

    override fun close() = interpreter.close()
}

/** The input and the outputs, in the order of the [heads], of an entry, which is a signature. */
private class Buffers(
    private val interpreter: Interpreter,
    private val entry: EntryPoint,
    heads: List<Head>,
) {
    private val input: ByteBuffer
    private val outputs: List<ByteBuffer>
    // One output may have any name in the file.
    private val names = if (heads.size == 1) entry.outputs else heads.map { it.name }

    init {
        val (inputs, sizes) =
            runtimeCall(TITLE, "refuses the file") {
                if (entry.name == null) {
                    interpreter.getInputTensor(0) to
                        heads.indices.map { interpreter.getOutputTensor(it) }
                } else {
                    interpreter.getInputTensorFromSignature(entry.input.name, entry.name) to
                        names.map { interpreter.getOutputTensorFromSignature(it, entry.name) }
                }
            }
        requireSize(TITLE, "input", entry.input.values, inputs.numElements())
        input = floats(inputs.numElements())
        outputs = sizes.map { floats(it.numElements()) }
        for ((head, output) in heads.zip(outputs)) {
            if (head.kind != Kind.FEATURES) {
                requireSize(TITLE, head.name, head.values, output.capacity() / Float.SIZE_BYTES)
            }
        }
    }

    fun run(values: FloatArray): FloatArray {
        input.rewind()
        input.asFloatBuffer().put(values)
        outputs.forEach { it.rewind() }
        if (entry.name == null) {
            val places = outputs.withIndex().associate { (place, output) -> place to output }
            interpreter.runForMultipleInputsOutputs(arrayOf(input), places)
        } else {
            val named = names.zip(outputs).toMap()
            interpreter.runSignature(mapOf(entry.input.name to input), named, entry.name)
        }
        return outputs.map(::values).reduce(FloatArray::plus)
    }
}

private fun values(output: ByteBuffer): FloatArray {
    output.rewind()
    return FloatArray(output.capacity() / Float.SIZE_BYTES).also { output.asFloatBuffer().get(it) }
}

private fun floats(count: Int): ByteBuffer =
    ByteBuffer.allocateDirect(count * Float.SIZE_BYTES).order(ByteOrder.nativeOrder())
