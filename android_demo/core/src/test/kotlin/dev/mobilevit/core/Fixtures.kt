package dev.mobilevit.core

import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.random.Random
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.assertThrows

/**
 * A file of the SDK's tests; a project that was copied out of the SDK's repository has none, and
 * skips.
 */
internal fun golden(name: String): File {
    val above = generateSequence(File("").absoluteFile) { it.parentFile }
    val found = above.map { File(it, "tests/golden/$name") }.firstOrNull { it.isFile }
    assumeTrue(found != null) { "tests/golden/$name is in the SDK's repository only" }
    return found!!
}

/** A safetensors file: its header's members after `__metadata__`, as JSON, and its data. */
internal fun safetensors(header: String, data: ByteArray): ByteArray {
    val text = header.toByteArray()
    return ByteBuffer.allocate(8 + text.size + data.size)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(text.size.toLong())
        .put(text)
        .put(data)
        .array()
}

internal fun littleEndian(vararg values: Float): ByteArray {
    val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    values.forEach { bytes.putFloat(it) }
    return bytes.array()
}

/**
 * An artifact of two classes whose input is 2 x 3 pixels: the score of "dark" is 1 - that of
 * "bright".
 */
internal object Tiny {
    val file = "the phone file".toByteArray()
    val sha256 = newSha256().apply { update(file) }.hex()

    fun manifest(change: (String) -> String = { it }): ByteArray =
        change(
                """
        {"schema": 1, "file": "tiny.tflite", "format": "tflite", "precision": "fp32", "backend": null,
         "target": "litert-cpu", "bytes": ${file.size}, "sha256": "$sha256", "unknown to apps": [1, 2.5e3, {"a": null}],
         "spec": {"model": "tiny", "config": {"num_classes": 2}, "labels": ["dark", "bright"]},
         "app_input": {"name": "image", "layout": "NHWC", "shape": [1, 2, 3, 3], "dtype": "float32",
          "channel_order": "RGB", "range": [0.0, 1.0], "mean_and_std": "in the graph",
          "resizing": {"mode": "shorter side", "size": [2], "filter": "bilinear", "antialias": true,
           "center_crop": [2, 3]}}}
        """
                    .trimIndent()
            )
            .toByteArray()

    fun reference(): ByteArray {
        val images = ByteArray(3 * 18) { (it * 37 % 256).toByte() }
        val answers =
            (0..2).flatMap { case ->
                val mean =
                    (18 * case until 18 * case + 18)
                        .map { (images[it].toInt() and 255) / 255f }
                        .average()
                        .toFloat()
                listOf(1 - mean, mean)
            }
        val cases =
            """[{\"name\": \"one\", \"contiguous\": true, \"role\": \"view\"},""" +
                """{\"name\": \"two\"},{\"name\": \"noise\", \"role\": \"edge\"}]"""
        val header =
            """{"__metadata__":{"cases":"$cases"},"logits":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},""" +
                """"images":{"dtype":"U8","shape":[3,3,2,3],"data_offsets":[24,78]}}"""
        return safetensors(header, littleEndian(*answers.toFloatArray()) + images)
    }

    fun files(): Map<String, ByteArray> =
        mapOf(
            "tiny.tflite" to file,
            "manifest.json" to manifest(),
            "reference.safetensors" to reference(),
        )

    fun write(folder: File, files: Map<String, ByteArray> = files()): File {
        folder.mkdirs()
        for ((name, content) in files) File(folder, name).writeBytes(content)
        return folder
    }

    /** Answers as the network of the artifact would. */
    class TinyEngine(private val change: (FloatArray) -> FloatArray = { it }) : Engine {
        var runs = 0
        override val runtime = "litert"
        override val runtimeVersion = "1.0"
        override val accelerator = Accelerator.CPU
        override val precision: String? = null
        override val fullyAccelerated = true

        override fun run(input: FloatArray, entry: Int): FloatArray {
            runs++
            val mean = input.average().toFloat()
            return change(floatArrayOf(1 - mean, mean))
        }

        override fun close() = Unit
    }
}

internal fun zipOf(files: Map<String, ByteArray>): ByteArray {
    val out = ByteArrayOutputStream()
    ZipOutputStream(out).use { zip ->
        for ((name, content) in files) {
            zip.putNextEntry(ZipEntry(name))
            zip.write(content)
            zip.closeEntry()
        }
    }
    return out.toByteArray()
}

/** Asserts that it is refused in one line that says [words]. */
internal fun assertRefused(vararg words: String, call: () -> Unit) {
    val message = assertThrows<ArtifactException> { call() }.message!!
    assertTrue(words.all { it in message }) { "$message does not say ${words.toList()}" }
    assertTrue(message.length < 500 && message.none { it < ' ' }) { "not one line: $message" }
}

/** [content] with bytes flipped, removed, doubled, or cut off, the same for the same [seed]. */
internal fun mutated(content: ByteArray, seed: Int): ByteArray {
    val random = Random(seed)
    var bytes = content.copyOf()
    repeat(random.nextInt(1, 4)) {
        if (bytes.isEmpty()) return bytes
        val at = random.nextInt(bytes.size)
        val end = minOf(bytes.size, at + random.nextInt(1, 9))
        bytes =
            when (random.nextInt(6)) {
                0 -> bytes.copyOf(at)
                1 -> bytes.copyOfRange(0, at) + bytes.copyOfRange(end, bytes.size)
                2 -> bytes.copyOfRange(0, end) + bytes.copyOfRange(at, bytes.size)
                3 ->
                    bytes.apply {
                        this[at] =
                            listOf('"', '{', '}', '[', ']', ',', ':', '9', '-', '\\')
                                .random(random)
                                .code
                                .toByte()
                    }
                4 -> bytes.apply { this[at] = random.nextInt(256).toByte() }
                else ->
                    bytes.apply {
                        this[at] = (this[at].toInt() xor (1 shl random.nextInt(8))).toByte()
                    }
            }
    }
    return bytes
}

/** Calls it with [count] mutations of [content]: it returns or refuses, and throws nothing else. */
internal fun assertSurvivesMutations(content: ByteArray, count: Int, call: (ByteArray) -> Unit) {
    var refused = 0
    for (seed in 1..count) {
        try {
            call(mutated(content, seed))
        } catch (_: ArtifactException) {
            refused++
        } catch (error: Throwable) {
            throw AssertionError("mutation $seed: $error", error)
        }
    }
    assertTrue(refused in count / 10..count) { "$refused of $count were refused" }
}
