package dev.mobilevit.demo.engines

import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EngineException
import dev.mobilevit.core.Layout
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

private const val TITLE = "ExecuTorch"

/** ExecuTorch's Module; the file itself says what it is delegated to, XNNPACK by default. */
class ExecutorchBackend : Backend {
    override val runtime = "executorch"
    override val title = TITLE
    override val format = "executorch"
    override val accelerators = listOf(Accelerator.CPU)

    override fun missing(accelerator: Accelerator) = absent(TITLE, "org.pytorch.executorch.Module")

    override fun open(artifact: ArtifactFolder, accelerator: Accelerator): Engine =
        ExecutorchEngine(artifact)
}

/** The input's buffer is made once, outside the Java heap, and wrapped in a tensor once. */
private class ExecutorchEngine(artifact: ArtifactFolder) : Engine {
    override val runtime = "executorch"
    override val runtimeVersion: String? = null
    override val accelerator = Accelerator.CPU
    override val precision: String? = null
    override val fullyAccelerated: Boolean? = null

    private val module =
        runtimeCall(TITLE, "refuses the file") {
            Module.load(artifact.file.path, Module.LOAD_MODE_MMAP)
        }
    private val buffer = Tensor.allocateFloatBuffer(artifact.manifest.input.values)
    private val input: EValue

    init {
        try {
            runtimeCall(TITLE, "refuses the file") { requireLoaded(module.loadMethod("forward")) }
            val shape =
                with(artifact.manifest.input) {
                    if (layout == Layout.NCHW) longArrayOf(1, 3, height.toLong(), width.toLong())
                    else longArrayOf(1, height.toLong(), width.toLong(), 3)
                }
            input = EValue.from(Tensor.fromBlob(buffer, shape))
        } catch (error: Exception) {
            module.destroy()
            throw error
        }
    }

    override fun run(input: FloatArray): FloatArray =
        runtimeCall(TITLE, "fails") {
            buffer.rewind()
            buffer.put(input)
            buffer.rewind()
            module.forward(this.input).map { it.toTensor().dataAsFloatArray }.reduce(FloatArray::plus)
        }

    override fun close() = module.destroy()
}

/**
 * Takes what loading a method answers: in ExecuTorch 1.1 a code, 0 for success; later versions
 * answer nothing, and throw.
 */
internal fun requireLoaded(code: Any) {
    if (code is Int && code != 0) throw EngineException("$TITLE refuses the file: error $code")
}
