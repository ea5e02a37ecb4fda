// Signatures of LiteRT's Kotlin API, so that the app compiles where Google's Maven repository
// cannot be reached. Nothing
// here runs or is shipped: Gradle uses com.google.ai.edge.litert:litert.
package com.google.ai.edge.litert

import android.content.Context
import android.content.res.AssetManager

private fun stub(): Nothing = throw LiteRtException("LiteRT is a stub in this build")

class LiteRtException(message: String) : Exception(message)

enum class Accelerator {
    NONE,
    CPU,
    GPU,
    NPU,
}

abstract class JniHandle internal constructor() : AutoCloseable {
    final override fun close() = Unit
}

class TensorBuffer internal constructor() : JniHandle() {
    fun writeFloat(data: FloatArray): Unit = stub()

    fun readFloat(): FloatArray = stub()

    fun writeInt8(data: ByteArray): Unit = stub()

    fun readInt8(): ByteArray = stub()
}

class Environment internal constructor() : JniHandle() {
    enum class Option {
        DispatchLibraryDir,
        CompilerPluginLibraryDir,
    }

    fun getAvailableAccelerators(): Set<Accelerator> = stub()

    companion object {
        @JvmStatic
        fun create(
            context: Context,
            options: Map<Option, String> = mapOf(),
            enableCompilerCache: Boolean = true,
        ): Environment = stub()

        @JvmStatic fun create(options: Map<Option, String> = mapOf()): Environment = stub()
    }
}

class CompiledModel private constructor() : JniHandle() {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    data class GpuOptions(val precision: Precision? = null, val backend: Backend? = null) {
        enum class Precision {
            DEFAULT,
            FP16,
            FP32,
            FP16_WITH_FP32_ACCUM,
        }

        enum class Backend {
            AUTOMATIC,
            OPENCL,
            OPENGL,
        }
    }

    class Options(val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(accelerators.toSet())

        var cpuOptions: CpuOptions? = null
        var gpuOptions: GpuOptions? = null

        companion object {
            @JvmStatic val CPU = Options(Accelerator.CPU)
        }
    }

    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = stub()

    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = stub()

    fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer = stub()

    fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer = stub()

    fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String? = null,
    ): Unit = stub()

    fun run(
        inputs: List<TensorBuffer>,
        outputs: List<TensorBuffer>,
        signatureIndex: Int = 0,
    ): Unit = stub()

    companion object {
        @JvmStatic
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options.CPU,
            optionalEnv: Environment? = null,
        ): CompiledModel = stub()

        @JvmStatic
        fun create(
            filePath: String,
            options: Options = Options.CPU,
            optionalEnv: Environment? = null,
        ): CompiledModel = stub()
    }
}
