// Signatures of ExecuTorch's API as version 1.1 and later ones both have them, for where
// executorch-android cannot be had. Nothing here runs or is shipped: Gradle, and Maven with
// -Pexecutorch, use org.pytorch:executorch-android.
package org.pytorch.executorch

import java.nio.FloatBuffer

private fun stub(): Nothing =
    throw UnsupportedOperationException("ExecuTorch is a stub in this build")

open class Module private constructor() {
    open fun forward(vararg inputs: EValue): Array<EValue> = stub()

    open fun execute(methodName: String, vararg inputs: EValue): Array<EValue> = stub()

    /** In later versions nothing is returned. */
    open fun loadMethod(methodName: String): Int = stub()

    open fun getMethods(): Array<String> = stub()

    open fun destroy(): Unit = stub()

    companion object {
        const val LOAD_MODE_FILE = 0
        const val LOAD_MODE_MMAP = 1

        @JvmStatic
        @JvmOverloads
        fun load(modelPath: String?, loadMode: Int = LOAD_MODE_FILE, numThreads: Int = 0): Module =
            stub()
    }
}

class EValue private constructor() {
    fun toTensor(): Tensor = stub()

    fun toStr(): String = stub()

    companion object {
        @JvmStatic fun from(value: Tensor): EValue = stub()
    }
}

abstract class Tensor private constructor() {
    abstract fun shape(): LongArray

    fun numel(): Long = stub()

    abstract val dataAsFloatArray: FloatArray

    companion object {
        @JvmStatic fun fromBlob(data: FloatArray, shape: LongArray): Tensor = stub()

        @JvmStatic fun fromBlob(data: FloatBuffer, shape: LongArray): Tensor = stub()

        @JvmStatic fun allocateFloatBuffer(numElements: Int): FloatBuffer = stub()
    }
}
