package dev.mobilevit.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A tensor of a file: its values are the bytes from [begin] to [end] of the file. */
internal class StoredTensor(val dtype: String, val shape: List<Long>, val begin: Int, val end: Int)

/**
 * A safetensors file in memory: 8 bytes with the header's length, the header, JSON, and the
 * tensors' bytes.
 */
internal class Safetensors
private constructor(
    private val content: ByteArray,
    val tensors: Map<String, StoredTensor>,
    val metadata: Map<String, String>,
    private val where: String,
) {
    /** The bytes of a tensor of this [dtype] and number of dimensions, where the file has it. */
    fun find(name: String, dtype: String, rank: Int): StoredTensor {
        val tensor = tensors[name] ?: throw ArtifactException("$where has no tensor $name")
        if (tensor.dtype != dtype || tensor.shape.size != rank) {
            throw ArtifactException(
                "$where: $name is ${tensor.dtype} ${tensor.shape}, expected $dtype with $rank dimensions"
            )
        }
        return tensor
    }

    fun bytes(tensor: StoredTensor): ByteArray = content.copyOfRange(tensor.begin, tensor.end)

    fun floats(tensor: StoredTensor): FloatArray {
        val buffer =
            ByteBuffer.wrap(content, tensor.begin, tensor.end - tensor.begin)
                .order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray((tensor.end - tensor.begin) / 4).also { buffer.asFloatBuffer().get(it) }
    }

    companion object {
        private const val MAX_HEADER = 4L shl 20
        private const val MAX_TENSORS = 100_000
        private val SIZES =
            mapOf(
                "BOOL" to 1,
                "U8" to 1,
                "I8" to 1,
                "U16" to 2,
                "I16" to 2,
                "F16" to 2,
                "BF16" to 2,
                "U32" to 4,
                "I32" to 4,
                "F32" to 4,
                "U64" to 8,
                "I64" to 8,
                "F64" to 8,
            )

        /**
         * Reads a file's [content]; [where] names it in errors. Throws [ArtifactException] where it
         * is not sound.
         */
        fun read(content: ByteArray, where: String): Safetensors {
            fun fail(what: String): Nothing =
                throw ArtifactException("$where is not a sound safetensors file: $what")
            if (content.size < 8) fail("it has ${content.size} bytes")
            val length = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).getLong(0)
            if (length !in 2..MAX_HEADER || length > content.size - 8) {
                fail("its header cannot have $length bytes")
            }
            val start = 8 + length.toInt()
            val header =
                parseJsonObject(ByteBuffer.wrap(content, 8, start - 8), "the header of $where")
            if (header.keys.size > MAX_TENSORS) fail("it has more than $MAX_TENSORS tensors")
            val metadata = header.objectOrNull("__metadata__")
            val tensors =
                header.keys
                    .filter { it != "__metadata__" }
                    .associateWith { name ->
                        tensor(header.objectAt(name), start, (content.size - start).toLong())
                    }
            var end = start
            for ((name, tensor) in
                tensors.entries.sortedBy {
                    it.value.begin.toLong() shl 32 or it.value.end.toLong()
                }) {
                if (tensor.begin != end) {
                    fail(
                        "${oneLine(name, 40)} begins at ${tensor.begin}, not where the one before ends"
                    )
                }
                end = tensor.end
            }
            if (end != content.size) fail("${content.size - end} bytes belong to no tensor")
            return Safetensors(
                content,
                tensors,
                metadata?.keys.orEmpty().associateWith { metadata!!.text(it) },
                where,
            )
        }

        private fun tensor(entry: JsonObject, start: Int, available: Long): StoredTensor {
            val dtype = entry.text("dtype")
            val size = SIZES[dtype] ?: entry.fail("dtype ${oneLine(dtype, 20)} is not known")
            val shape = entry.integers("shape", 0..Int.MAX_VALUE.toLong())
            val offsets = entry.integers("data_offsets", 0..available)
            if (shape.size > 16 || offsets.size != 2 || offsets[0] > offsets[1]) {
                entry.fail("shape or data_offsets are malformed")
            }
            var bytes = size.toLong()
            for (side in shape) {
                bytes *= side // both factors are below 2^31
                if (bytes > available) entry.fail("shape $shape has more values than the file")
            }
            if (bytes != offsets[1] - offsets[0]) {
                entry.fail("$dtype $shape takes $bytes bytes, not ${offsets[1] - offsets[0]}")
            }
            return StoredTensor(
                dtype,
                shape,
                start + offsets[0].toInt(),
                start + offsets[1].toInt(),
            )
        }
    }
}
