package dev.mobilevit.demo.engines

import com.google.ai.edge.litert.Accelerator as LitertAccelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine

private const val TITLE = "LiteRT"

/** LiteRT's CompiledModel. */
class LitertBackend : Backend {
    override val runtime = "litert"
    override val title = TITLE
    override val format = "tflite"
    override val accelerators = listOf(Accelerator.CPU, Accelerator.GPU)

    override fun missing(accelerator: Accelerator) =
        absent(TITLE, "com.google.ai.edge.litert.CompiledModel")

    override fun open(artifact: ArtifactFolder, accelerator: Accelerator): Engine =
        LitertEngine(artifact, accelerator)
}

/** Buffers are made once; a run writes them, computes and reads the scores back. */
private class LitertEngine(artifact: ArtifactFolder, override val accelerator: Accelerator) :
    Engine {
    override val runtime = "litert"
    override val runtimeVersion: String? = null
    override val precision = if (accelerator == Accelerator.GPU) "fp32" else null
    override val fullyAccelerated =
        if (accelerator == Accelerator.CPU) true else null // CompiledModel does not tell

    private val model =
        runtimeCall(TITLE, "refuses the file on ${accelerator.word.uppercase()}") {
            CompiledModel.create(artifact.file.path, options(accelerator))
        }
    private val input = artifact.manifest.input.name
    private val names = artifact.manifest.heads.map { it.name }
    private var inputs = emptyList<TensorBuffer>()
    private var outputs = emptyList<TensorBuffer>() // in the order of the heads

    init {
        try {
            runtimeCall(TITLE, "makes no buffers") {
                inputs = model.createInputBuffers()
                outputs = // a list of several would be in the file's own order
                    if (names.size == 1) model.createOutputBuffers()
                    else names.map { model.createOutputBuffer(it) }
            }
        } catch (error: Exception) {
            close()
            throw error
        }
    }

    override fun run(input: FloatArray): FloatArray =
        runtimeCall(TITLE, "fails") {
            inputs[0].writeFloat(input)
            if (names.size == 1) model.run(inputs, outputs)
            else model.run(mapOf(this.input to inputs[0]), names.zip(outputs).toMap())
            outputs.map { it.readFloat() }.reduce(FloatArray::plus)
        }

    override fun close() {
        inputs.forEach { it.close() }
        outputs.forEach { it.close() }
        model.close()
    }
}

/**
 * One accelerator and no other, so that nothing falls back silently; float32 on the GPU, whose
 * default is float16.
 */
private fun options(accelerator: Accelerator): CompiledModel.Options =
    when (accelerator) {
        Accelerator.CPU -> CompiledModel.Options(LitertAccelerator.CPU)
        Accelerator.GPU ->
            CompiledModel.Options(LitertAccelerator.GPU).apply {
                gpuOptions =
                    CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32)
            }
        Accelerator.NPU -> CompiledModel.Options(LitertAccelerator.NPU)
    }
