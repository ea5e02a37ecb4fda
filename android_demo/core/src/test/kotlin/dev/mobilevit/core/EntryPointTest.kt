package dev.mobilevit.core

import java.io.File
import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

/** The artifact [Tiny] with the input sizes 2 x 3, 4 x 2 and 2 x 2. */
internal object Several {
    private val sizes = listOf(2 to 3, 4 to 2, 2 to 2)

    private fun input(height: Int, width: Int) =
        """{"name": "image", "layout": "NHWC", "shape": [1, $height, $width, 3], "dtype": "float32",
            "channel_order": "RGB", "range": [0.0, 1.0], "mean_and_std": "in the graph",
            "resizing": {"mode": "shorter side", "size": [2], "filter": "bilinear", "antialias": true,
             "center_crop": [$height, $width]}}"""

    private const val OUTPUTS = """"outputs": [{"name": "logits", "shape": [1, 2], "dtype": "float32"}]"""

    fun manifest(change: (String) -> String = { it }): ByteArray {
        val entries = sizes.mapIndexed { place, (h, w) ->
            val name = if (place == 0) "serving_default" else "image_${h}x$w"
            """{"name": "$name", "image_size": [$h, $w], "app_input": ${input(h, w)}, $OUTPUTS}"""
        }
        return Tiny.manifest {
            val whole =
                it.replace("\"schema\": 1", "\"schema\": 2, \"entries\": $entries, $OUTPUTS")
                    .replace("\"spec\": {", "\"spec\": {\"image_sizes\": [[2, 3], [4, 2], [2, 2]], ")
            change(whole)
        }
    }

    /** Two cases of the first size, and one of each other. */
    fun reference(
        names: List<String> = listOf("images", "images_4x2", "images_2x2"),
        counts: List<Int> = listOf(2, 1, 1),
        cases: Int = 4,
    ): ByteArray {
        val images = sizes.zip(counts) { (h, w), count -> ByteArray(3 * h * w * count) { (it * 37).toByte() } }
        val answers = sizes.indices.flatMap { entry ->
            List(counts[entry]) { case ->
                val size = images[entry].size / counts[entry]
                val mean =
                    images[entry].slice(case * size until (case + 1) * size).map { (it.toInt() and 255) / 255f }
                        .average().toFloat()
                listOf(1 - mean + entry, mean)
            }
        }.flatten().take(2 * cases)
        var end = 8 * cases
        val tensors = sizes.indices.joinToString("") { place ->
            val (h, w) = sizes[place]
            val begin = end
            end += images[place].size
            """,\n"${names[place]}":{"dtype":"U8","shape":[${counts[place]},3,$h,$w],"data_offsets":[$begin,$end]}"""
                .replace("\\n", "")
        }
        val rows = (1..cases).joinToString { """{\"name\": \"case $it\"}""" }
        val header =
            """{"__metadata__":{"cases":"[$rows]"},"logits":{"dtype":"F32","shape":[$cases,2],""" +
                """"data_offsets":[0,${8 * cases}]}$tensors}"""
        return safetensors(header, littleEndian(*answers.toFloatArray()) + images.reduce(ByteArray::plus))
    }

    fun write(folder: File): ArtifactFolder {
        val files = Tiny.files() + mapOf("manifest.json" to manifest(), "reference.safetensors" to reference())
        return ArtifactFolder.open(Tiny.write(folder, files))
    }

    /** Answers as each entry's network would: the score of "dark" is larger by the entry's place. */
    class SeveralEngine : Engine by Tiny.TinyEngine() {
        val asked = ArrayList<Pair<Int, Int>>()

        override fun run(input: FloatArray, entry: Int): FloatArray {
            asked += entry to input.size
            val mean = input.average().toFloat()
            return floatArrayOf(1 - mean + entry, mean)
        }
    }
}

class EntryPointTest(@param:TempDir private val parent: File) {
    @Test
    fun `a picture takes the nearest aspect ratio, and of equals the first`() {
        val groups = parseJsonObjects(golden("entries.json").readText(), "entries.json")
        val input = Manifest.read(Tiny.manifest()).input
        for (group in groups) {
            val entries = group.pairs("sizes").map { (height, width) ->
                val own = input.copy(height = height.toInt(), width = width.toInt())
                EntryPoint(null, own, emptyList())
            }
            for (picture in group.objects("pictures")) {
                val (width, height, entry) =
                    listOf("width", "height", "entry").map { picture.integer(it, 0L..99_999).toInt() }
                assertEquals(entry, entries.nearest(width, height), "$width x $height")
            }
        }
    }

    @Test
    fun `entries are read, and a file of one size has one without a name`() {
        val manifest = Manifest.read(Several.manifest())
        assertEquals(
            listOf("serving_default" to 3, "image_4x2" to 2, "image_2x2" to 2),
            manifest.entries.map { it.name to it.input.width },
        )
        assertEquals(manifest.input, manifest.entries[0].input)
        assertEquals(listOf("logits"), manifest.entries[2].outputs)
        val one = Manifest.read(Tiny.manifest()).entries
        assertNull(one.single().name)
    }

    @Test
    fun `entries that disagree are refused with the reason`() {
        val refusals =
            mapOf(
                "\"schema\": 2" to "\"schema\": 1" to "schema 1 with entries",
                "\"entries\"" to "\"others\"" to "schema 2 without entries",
                "image_sizes" to "image_size" to "image_sizes null are not",
                "[[2, 3], [4, 2], [2, 2]]" to "[[2, 3], [4, 2]]" to "are not those of the entries",
                "[[2, 3], [4, 2], [2, 2]]" to "[[2, 3], [4, 2], [2]]" to "must hold pairs",
                "[[2, 3], [4, 2], [2, 2]]" to "[[2, 3], [4, 2], [2, \"2\"]]" to "must hold pairs",
                "[[2, 3], [4, 2], [2, 2]]" to "[[2, 3], [4, 2], 2]" to "must hold pairs",
                "\"image_4x2\"" to "\"image_2x4\"" to "name image_2x4, expected image_4x2",
                "\"serving_default\"" to "\"main\"" to "expected serving_default",
                "[1, 4, 2, 3]" to "[1, 2, 4, 3]" to "center_crop is not the input's size",
                "\"image_size\": [4, 2]" to "\"image_size\": [2, 4]" to "are not those of the entries",
            )
        for ((change, reason) in refusals) {
            val changed = Several.manifest { it.replaceFirst(change.first, change.second) }
            assertRefused("manifest.json", reason) { Manifest.read(changed) }
        }
        for ((change, reason) in
            mapOf(
                "\"name\": \"image\"" to "\"name\": \"x\"" to "does not take and answer",
                "[0.0, 1.0]" to "[0.0, 255.0]" to "does not take and answer",
                "\"shape\": [1, 2], " to "\"shape\": [1, 3], " to "does not take and answer",
                "\"name\": \"logits\"" to "\"name\": \"scores\"" to "does not take and answer",
            )) {
            val changed = Several.manifest { text ->
                val at = text.indexOf("image_2x2")
                text.substring(0, at) + text.substring(at).replaceFirst(change.first, change.second)
            }
            assertRefused("entries[2]", reason) { Manifest.read(changed) }
        }
        assertRefused("entries[0].app_input", "filter") {
            Manifest.read(Several.manifest { it.replaceFirst("\"bilinear\"", "\"lanczos\"") })
        }
        assertRefused("entries[0]", "not that of the file") {
            Manifest.read(Several.manifest { it.replaceFirst("\"bilinear\"", "\"bicubic\"") })
        }
        val twice = Several.manifest {
            it.replace("[[2, 3], [4, 2], [2, 2]]", "[[2, 3], [4, 2], [4, 2]]")
                .replace("\"image_size\": [2, 2]", "\"image_size\": [4, 2]")
        }
        assertRefused("two entries have one") { Manifest.read(twice) }
        assertRefused("image_sizes is there") {
            Manifest.read(Tiny.manifest { it.replace("\"spec\": {", "\"spec\": {\"image_sizes\": [[2, 3], [4, 2]], ") })
        }
    }

    @Test
    fun `2000 damaged manifests of several sizes are read or refused`() =
        assertSurvivesMutations(Several.manifest(), 2000) { Manifest.read(it) }

    @Test
    fun `reference vectors hold the cases of all sizes, and others are refused`() {
        val manifest = Manifest.read(Several.manifest())
        val reference = Reference.read(Several.reference(), manifest)
        assertEquals(listOf(0, 0, 1, 2), reference.cases.map { it.entry })
        val sizes = reference.cases.indices.map { reference.image(it).run { height to width } }
        assertEquals(listOf(2 to 3, 2 to 3, 4 to 2, 2 to 2), sizes)
        assertEquals((18 * 37).toByte(), reference.image(1).rgb[0])
        assertEquals(0, reference.image(3).rgb[0])
        assertRefused("no tensor images_2x2") {
            Reference.read(Several.reference(names = listOf("images", "images_4x2", "images_2x4")), manifest)
        }
        assertRefused("4 images for 3 cases") { Reference.read(Several.reference(cases = 3), manifest) }
        assertRefused("6 images for 4 cases") {
            Reference.read(Several.reference(counts = listOf(2, 3, 1)), manifest)
        }
        assertSurvivesMutations(Several.reference(), 2000) { Reference.read(it, manifest) }
    }

    @Test
    fun `a picture runs in its entry, each case in its own, and every entry is timed`() {
        val artifact = Several.write(File(parent, "several"))
        val engine = Several.SeveralEngine()
        val classifier = Classifier(artifact, engine)
        for ((picture, entry) in mapOf(Picture(90, 60) to 0, Picture(40, 80) to 1, Picture(50, 50) to 2)) {
            assertEquals(entry, classifier.classify(picture).entry)
            assertEquals(entry to artifact.manifest.entries[entry].input.values, engine.asked.last())
        }
        engine.asked.clear()
        val found = verify(artifact, artifact.reference(), engine)
        assertTrue(found.verdict!!.passed) { found.verdict.toString() }
        assertEquals(listOf(0, 0, 1, 2), engine.asked.map { it.first })
        val steps = ArrayList<Pair<Int, Int>>()
        val latency = classifier.measure(Picture(64, 48), 1, 2, { done, total -> steps += done to total })
        assertEquals((1..9).map { it to 9 }, steps)
        assertEquals(artifact.manifest.entries.map { it.name }, latency.entries.keys.toList())
        val report =
            DeviceReport(
                App("a", "1"),
                Device("m", "s", null),
                artifact,
                artifact.reference(),
                "2026-11-29T12:00:00Z",
                listOf(found.run.copy(latency = latency)),
            )
        val document = parseJsonObject(ByteBuffer.wrap(report.toBytes()), "the report")
        val told = document.objects("runs")[0].objectAt("latency")
        assertEquals(setOf("warm_up", "inference_ms", "with_preprocessing_ms", "entries"), told.keys)
        val third = told.objects("entries")[2]
        assertEquals("image_2x2", third.text("name"))
        assertEquals(setOf("name", "inference_ms", "with_preprocessing_ms"), third.keys)
        assertNotNull(third.objectAt("inference_ms").numbers("samples").getOrNull(1))
    }

    @Test
    fun `an engine that answers another number of scores in one entry is an error of the run`() {
        val artifact = Several.write(File(parent, "several"))
        val engine =
            object : Engine by Tiny.TinyEngine() {
                override fun run(input: FloatArray, entry: Int) = FloatArray(if (entry == 1) 3 else 2)
            }
        assertTrue("answered 3 numbers" in verify(artifact, artifact.reference(), engine).run.error!!)
        assertThrows<EngineException> { Classifier(artifact, engine).classify(Picture(4, 8)) }
    }
}
