package dev.mobilevit.demo.engines

import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.Kind
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.InterpreterApi
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
        absent(TITLE, "org.tensorflow.lite.InterpreterApi")

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

    private val interpreter: InterpreterApi =
        runtimeCall(TITLE, "refuses the file") {
            InterpreterApi.create(artifact.file, InterpreterApi.Options().setUseXNNPACK(true))
        }
    private val input: ByteBuffer
    private val outputs: List<ByteBuffer>

    init {
        try {
            val inputs =
                runtimeCall(TITLE, "refuses the file") {
                    interpreter.getInputTensor(0).numElements()
                }
            requireSize(TITLE, "input", artifact.manifest.input.values, inputs)
            input = floats(inputs)
            outputs =
                runtimeCall(TITLE, "refuses the file") {
                    artifact.manifest.heads.indices.map {
                        floats(interpreter.getOutputTensor(it).numElements())
                    }
                }
            for ((head, output) in artifact.manifest.heads.zip(outputs)) {
                if (head.kind != Kind.FEATURES) {
                    requireSize(TITLE, head.name, head.values, output.capacity() / Float.SIZE_BYTES)
                }
            }
        } catch (error: Exception) {
            interpreter.close()
            throw error
        }
    }

    override fun run(input: FloatArray): FloatArray =
        runtimeCall(TITLE, "fails") {
            this.input.rewind()
            this.input.asFloatBuffer().put(input)
            outputs.forEach { it.rewind() }
            val places = outputs.withIndex().associate { (place, output) -> place to output }
            interpreter.runForMultipleInputsOutputs(arrayOf(this.input), places)
            outputs.map(::values).reduce(FloatArray::plus)
        }

    override fun close() = interpreter.close()
}

private fun values(output: ByteBuffer): FloatArray {
    output.rewind()
    return FloatArray(output.capacity() / Float.SIZE_BYTES).also { output.asFloatBuffer().get(it) }
}

private fun floats(count: Int): ByteBuffer =
    ByteBuffer.allocateDirect(count * Float.SIZE_BYTES).order(ByteOrder.nativeOrder())
