package dev.mobilevit.demo

import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import dev.mobilevit.core.AppInput
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Picture
import dev.mobilevit.core.Resizer
import dev.mobilevit.core.Score
import dev.mobilevit.core.fill
import dev.mobilevit.core.topK
import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

// The code of docs/guides/android.md, which a test compares with it: so it compiles.

@Suppress("unused")
private fun litert(filesDir: File, bitmap: Bitmap): List<Score> {
    val artifact = ArtifactFolder.open(File(filesDir, "mobilevit_xxs-tflite-fp32"))
    val options =
        CompiledModel.Options(Accelerator.GPU).apply {
            gpuOptions =
                CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32)
        }
    val model = CompiledModel.create(artifact.file.path, options)
    val inputs = model.createInputBuffers() // once, and closed with the model
    val outputs = model.createOutputBuffers()

    val pixels = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    val picture = Picture.ofArgb(bitmap.width, bitmap.height, pixels)
    val input = artifact.manifest.input
    val values = FloatArray(input.values)
    input.fill(Resizer(input.resizing, picture.width, picture.height).resize(picture), values)

    inputs[0].writeFloat(values)
    model.run(inputs, outputs)
    val best = topK(outputs[0].readFloat(), artifact.manifest.labels)
    return best
}

@Suppress("unused")
private fun executorch(artifact: ArtifactFolder, input: AppInput, values: FloatArray): List<Score> {
    val module = Module.load(artifact.file.path, Module.LOAD_MODE_MMAP)
    val shape = longArrayOf(1, 3, input.height.toLong(), input.width.toLong())
    val answer = module.forward(EValue.from(Tensor.fromBlob(values, shape)))
    val best = topK(answer[0].toTensor().dataAsFloatArray, artifact.manifest.labels)
    return best
}
