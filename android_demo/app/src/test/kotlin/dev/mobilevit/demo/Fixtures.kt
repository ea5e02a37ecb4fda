package dev.mobilevit.demo

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.net.Uri
import android.os.Looper
import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EngineException
import dev.mobilevit.demo.engines.Backend
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.concurrent.Executor
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.random.Random
import org.junit.Assume.assumeTrue
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

val LABELS =
    listOf(
        "dahlia",
        "zinnia",
        "chrysanthemum",
        "daisy",
        "bee",
        "hummingbird",
        "poppy",
        "sunflower",
        "rose",
        "tulip",
    )
private const val SIDE = 64
private const val CASES = 27

/** A network of a sort: each class looks at its own part of the picture. */
fun network(input: FloatArray): FloatArray =
    FloatArray(LABELS.size) { index ->
        val part = input.size / LABELS.size
        var sum = 0f
        for (at in index * part until (index + 1) * part) sum += input[at]
        20 * sum / part
    }

/** What it says of a flower, whatever it sees. */
val flower = floatArrayOf(7.1f, 4.9f, 4.3f, 3.2f, 2.4f, 0.3f, 0.2f, 0.1f, 0f, 0f)

/** The files of an artifact whose answers are those of [network]; [change] edits its manifest. */
fun artifactFiles(
    format: String = "tflite",
    bytes: Int = 25,
    change: (String) -> String = { it },
): Map<String, ByteArray> {
    val file = Random(3).nextBytes(bytes)
    val sha256 =
        MessageDigest.getInstance("SHA-256").digest(file).joinToString("") { "%02x".format(it) }
    val suffix = if (format == "tflite") "tflite" else "pte"
    val (layout, shape) =
        if (format == "tflite") "NHWC" to "[1, $SIDE, $SIDE, 3]"
        else "NCHW" to "[1, 3, $SIDE, $SIDE]"
    val labels = LABELS.joinToString { "\"$it\"" }
    val manifest =
        """
        {"schema": 1, "file": "mobilevit_xxs.$suffix", "format": "$format", "precision": "fp32", "backend": null,
         "bytes": ${file.size}, "sha256": "$sha256",
         "spec": {"model": "mobilevit_xxs", "config": {"num_classes": ${LABELS.size}}, "labels": [$labels]},
         "app_input": {"name": "image", "layout": "$layout", "shape": $shape, "dtype": "float32", "channel_order": "RGB",
          "range": [0.0, 1.0], "mean_and_std": "in the graph",
          "resizing": {"mode": "shorter side", "size": [72], "filter": "bicubic", "antialias": true,
           "center_crop": [$SIDE, $SIDE]}}}
    """
            .trimIndent()
    return mapOf(
        "mobilevit_xxs.$suffix" to file,
        "manifest.json" to change(manifest).toByteArray(),
        "reference.safetensors" to reference(layout),
    )
}

/** The same with a second input size, 64 x 96, of two cases. */
fun severalFiles(): Map<String, ByteArray> {
    val outputs = """"outputs": [{"name": "logits", "shape": [1, ${LABELS.size}]}]"""
    val input = { width: Int ->
        """{"name": "image", "layout": "NHWC", "shape": [1, $SIDE, $width, 3], "dtype": "float32", "channel_order": "RGB",
            "range": [0.0, 1.0], "mean_and_std": "in the graph", "resizing": {"mode": "shorter side", "size": [72],
            "filter": "bicubic", "antialias": true, "center_crop": [$SIDE, $width]}}"""
    }
    val entries = listOf("serving_default" to SIDE, "image_64x96" to 96).map { (name, width) ->
        """{"name": "$name", "image_size": [$SIDE, $width], "app_input": ${input(width)}, $outputs}"""
    }
    val files = artifactFiles {
        it.replace("\"schema\": 1", "\"schema\": 2, \"entries\": $entries, $outputs")
            .replace("\"spec\": {", "\"spec\": {\"image_sizes\": [[$SIDE, $SIDE], [$SIDE, 96]], ")
    }
    return files + ("reference.safetensors" to reference("NHWC", 2))
}

/** [wide]: cases of 64 x 96 behind the others. */
private fun reference(layout: String, wide: Int = 0): ByteArray {
    val plane = SIDE * SIDE
    val images = Random(7).nextBytes(CASES * 3 * plane)
    val wider = Random(8).nextBytes(wide * 3 * SIDE * 96)
    val all = CASES + wide
    val answers = ByteBuffer.allocate(4 * all * LABELS.size).order(ByteOrder.LITTLE_ENDIAN)
    for (case in 0 until CASES) {
        val input =
            FloatArray(3 * plane) {
                val at = if (layout == "NCHW") it else it % 3 * plane + it / 3
                (images[case * 3 * plane + at].toInt() and 255) / 255f
            }
        network(input).forEach { answers.putFloat(it) }
    }
    for (case in 0 until wide) {
        val pixels = SIDE * 96
        val input =
            FloatArray(3 * pixels) {
                (wider[case * 3 * pixels + it % 3 * pixels + it / 3].toInt() and 255) / 255f
            }
        network(input).forEach { answers.putFloat(it) }
    }
    val cases = (1..all).joinToString { """{\"name\": \"china, view $it\"}""" }
    val end = answers.capacity()
    val header =
        """{"__metadata__":{"cases":"[$cases]"},"logits":{"dtype":"F32","shape":[$all,${LABELS.size}],""" +
            """"data_offsets":[0,$end]},"images":{"dtype":"U8","shape":[$CASES,3,$SIDE,$SIDE],""" +
            """"data_offsets":[$end,${end + images.size}]}""" +
            if (wide == 0) "}"
            else
                ""","images_64x96":{"dtype":"U8","shape":[$wide,3,$SIDE,96],"data_offsets":[${end + images.size},""" +
                    "${end + images.size + wider.size}]}}"
    return ByteBuffer.allocate(8 + header.length + end + images.size + wider.size)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(header.length.toLong())
        .put(header.toByteArray())
        .put(answers.array())
        .put(images)
        .put(wider)
        .array()
}

fun writeArtifact(folder: File, files: Map<String, ByteArray> = artifactFiles()): ArtifactFolder {
    folder.mkdirs()
    files.forEach { (name, content) -> File(folder, name).writeBytes(content) }
    return ArtifactFolder.open(folder)
}

fun zip(files: Map<String, ByteArray>): ByteArray {
    val out = ByteArrayOutputStream()
    ZipOutputStream(out).use { zip ->
        files.forEach { (name, content) ->
            zip.putNextEntry(ZipEntry(name))
            zip.write(content)
        }
    }
    return out.toByteArray()
}

/** A runtime that answers what it is told to. */
class FakeBackend(
    override val runtime: String = "litert",
    override val title: String = "LiteRT",
    override val format: String = "tflite",
    override val accelerators: List<Accelerator> = listOf(Accelerator.CPU, Accelerator.GPU),
    private val missing: Map<Accelerator, String> = emptyMap(),
    private val refused: Map<Accelerator, String> = emptyMap(),
    var answer: (FloatArray) -> FloatArray = ::network,
) : Backend {
    /** Of each engine that was opened, the accelerator, with "-" before it once closed. */
    val log = ArrayList<String>()

    override fun missing(accelerator: Accelerator) = missing[accelerator]

    override fun open(artifact: ArtifactFolder, accelerator: Accelerator): Engine {
        refused[accelerator]?.let { throw EngineException(it) }
        log += accelerator.word
        return object : Engine {
            override val runtime = this@FakeBackend.runtime
            override val runtimeVersion = "9.9"
            override val accelerator = accelerator
            override val precision: String? = null
            override val fullyAccelerated = true

            override fun run(input: FloatArray, entry: Int) = answer(input)

            override fun close() {
                log += "-" + accelerator.word
            }
        }
    }
}

/** Runs work at once, or where it [holds] when it is told to. */
class TestWorker : Executor {
    private val held = ArrayDeque<Runnable>()
    var holds = false

    override fun execute(work: Runnable) {
        if (holds) held.addLast(work) else work.run()
    }

    fun release() {
        holds = false
        while (held.isNotEmpty()) held.removeFirst().run()
    }
}

class TestApplication : DemoApplication() {
    override val worker = TestWorker()
    override val backends
        get() = TestApplication.backends

    companion object {
        var backends: List<Backend> = emptyList()
    }
}

val app
    get() = RuntimeEnvironment.getApplication() as TestApplication

fun idle() = shadowOf(Looper.getMainLooper()).idle()

inline fun <reified T : Activity> start(intent: Intent? = null): ActivityController<T> =
    Robolectric.buildActivity(T::class.java, intent).setup().also { idle() }

/** A file of the SDK's repository; a project that was copied out of it has none, and skips. */
fun golden(name: String): File {
    val above = generateSequence(File("").absoluteFile) { it.parentFile }
    val found = above.map { File(it, "tests/golden/$name") }.firstOrNull { it.isFile }
    assumeTrue("tests/golden/$name is in the SDK's repository only", found != null)
    return found!!
}

/** The photograph on the screens: -Dphoto=FILE, or a drawn one. */
fun photoBytes(): ByteArray {
    System.getProperty("photo")
        ?.takeIf { it.isNotEmpty() }
        ?.let {
            return File(it).readBytes()
        }
    val bitmap = Bitmap.createBitmap(640, 427, Bitmap.Config.ARGB_8888)
    for (y in 0 until bitmap.height) for (x in 0 until bitmap.width) bitmap.setPixel(
        x,
        y,
        0xFF shl 24 or (x / 3 shl 16) or (y / 2 shl 8) or 90,
    )
    return ByteArrayOutputStream()
        .also { bitmap.compress(Bitmap.CompressFormat.JPEG, 90, it) }
        .toByteArray()
}

/** What another app shares under the address that is returned. */
fun shared(content: ByteArray, name: String = "picture.jpg"): Uri {
    val uri = Uri.parse("content://another.app/$name")
    shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { content.inputStream() }
    return uri
}
