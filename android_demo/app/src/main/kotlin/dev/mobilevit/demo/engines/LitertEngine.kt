package dev.mobilevit.demo.engines

import com.google.ai.edge.litert.Accelerator as LitertAccelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EntryPoint

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
    private val signatures = ArrayList<Signature>() // in the order of the entries

    init {
        try {
            runtimeCall(TITLE, "makes no buffers") {
                for (entry in artifact.manifest.entries) {
                    signatures += Signature(model, entry, artifact.manifest.heads.map { it.name })
                }
            }
        } catch (error: Exception) {
            close()
            throw error
        }
    }

    override fun run(input: FloatArray, entry: Int): FloatArray =
        runtimeCall(TITLE, "fails") { signatures[entry].run(input) }

    override fun close() {
        signatures.forEach { it.close() }
        model.close()
    }
}

/** A signature and its buffers, outputs in the order of the [heads]. */
private class Signature(
    private val model: CompiledModel,
    private val entry: EntryPoint,
    heads: List<String>,
) : AutoCloseable {
    private val isOnly = entry.name == null && heads.size == 1
    // A list of several would be in the file's own order.
    private val names = if (heads.size == 1 && !isOnly) entry.outputs else heads
    private val inputs =
        if (entry.name == null) model.createInputBuffers()
        else listOf(model.createInputBuffer(entry.input.name, entry.name))
    private val outputs =
        if (isOnly) model.createOutputBuffers()
        else names.map { model.createOutputBuffer(it, entry.name) }

    fun run(input: FloatArray): FloatArray {
        inputs[0].writeFloat(input)
        if (isOnly) model.run(inputs, outputs)
        else model.run(mapOf(entry.input.name to inputs[0]), names.zip(outputs).toMap(), entry.name)
        return outputs.map { it.readFloat() }.reduce(FloatArray::plus)
    }

    override fun close() {
        inputs.forEach { it.close() }
        outputs.forEach { it.close() }
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
