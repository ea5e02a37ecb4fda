package dev.mobilevit.demo.engines

import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.AppInput
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EngineException
import dev.mobilevit.core.Layout
import java.nio.FloatBuffer
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

/** Each input's buffer is made once, outside the Java heap, and wrapped in a tensor once. */
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
    private val methods: List<Method>

    init {
        try {
            methods = artifact.manifest.entries.map {
                val name = it.name ?: "forward"
                runtimeCall(TITLE, "refuses the file") { requireLoaded(module.loadMethod(name)) }
                Method(name, it.input)
            }
        } catch (error: Exception) {
            module.destroy()
            throw error
        }
    }

    override fun run(input: FloatArray, entry: Int): FloatArray =
        runtimeCall(TITLE, "fails") {
            val method = methods[entry]
            method.buffer.rewind()
            method.buffer.put(input)
            method.buffer.rewind()
            module.execute(method.name, method.input)
                .map { it.toTensor().dataAsFloatArray }
                .reduce(FloatArray::plus)
        }

    override fun close() = module.destroy()
}

/** An entry's method, and its input. */
private class Method(val name: String, of: AppInput) {
    val buffer: FloatBuffer = Tensor.allocateFloatBuffer(of.values)
    val input: EValue

    init {
        val (height, width) = of.height.toLong() to of.width.toLong()
        val shape =
            if (of.layout == Layout.NCHW) longArrayOf(1, 3, height, width)
            else longArrayOf(1, height, width, 3)
        input = EValue.from(Tensor.fromBlob(buffer, shape))
    }
}

/**
 * Takes what loading a method answers: in ExecuTorch 1.1 a code, 0 for success; later versions
 * answer nothing, and throw.
 */
internal fun requireLoaded(code: Any) {
    if (code is Int && code != 0) throw EngineException("$TITLE refuses the file: error $code")
}
