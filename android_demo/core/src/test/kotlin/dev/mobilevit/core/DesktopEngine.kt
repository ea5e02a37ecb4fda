package dev.mobilevit.core

import java.io.DataInputStream
import java.io.EOFException
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * A desktop's runtime in a process of its own, `desktop_engine.py`, which [python] runs; it says
 * which frames it speaks.
 */
internal class DesktopEngine(
    python: File,
    program: File,
    override val runtime: String,
    file: File,
    entries: List<String>,
) : Engine {
    private val process =
        ProcessBuilder(listOf(python.path, program.path, runtime, file.path) + entries)
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start()
    private val answers = DataInputStream(process.inputStream.buffered())
    override val runtimeVersion: String
    override val accelerator = Accelerator.CPU
    override val precision: String? = null
    override val fullyAccelerated: Boolean? = null

    init {
        try {
            runtimeVersion = String(receive("REDY"))
        } catch (error: EngineException) {
            close()
            throw error
        }
    }

    override fun run(input: FloatArray, entry: Int): FloatArray {
        val size = 4 + 4 * input.size
        val frame = ByteBuffer.allocate(8 + size).order(ByteOrder.LITTLE_ENDIAN)
        frame.put("IMAG".toByteArray()).putInt(size).putFloat(entry.toFloat())
        frame.asFloatBuffer().put(input)
        try {
            process.outputStream.write(frame.array())
            process.outputStream.flush()
        } catch (error: IOException) {
            throw EngineException("$runtime has ended", error)
        }
        val scores = ByteBuffer.wrap(receive("SCOR")).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(scores.remaining()).also(scores::get)
    }

    override fun close() {
        process.destroyForcibly().waitFor()
    }

    private fun receive(expected: String): ByteArray {
        val header = ByteArray(8)
        val payload =
            try {
                answers.readFully(header)
                ByteArray(ByteBuffer.wrap(header).order(ByteOrder.LITTLE_ENDIAN).getInt(4))
                    .also(answers::readFully)
            } catch (error: EOFException) {
                throw EngineException("$runtime has ended", error)
            }
        val kind = String(header, 0, 4)
        if (kind != expected) throw EngineException("$runtime: ${oneLine(String(payload))}")
        return payload
    }
}
