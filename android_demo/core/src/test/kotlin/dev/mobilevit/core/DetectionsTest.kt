package dev.mobilevit.core

import java.io.File
import java.nio.ByteBuffer
import kotlin.math.abs
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

/** A detector of two queries and two classes: from its manifest to objects and a verdict. */
class DetectionsTest(@param:TempDir private val out: File) {
    private val outputs =
        """"outputs": [{"name": "logits", "shape": [1, 2, 3], "dtype": "float32"},
           {"name": "boxes", "shape": [1, 2, 4], "dtype": "float32"}]"""

    private fun manifest(change: (String) -> String = { it }) = Tiny.manifest {
        change(
            it.replace("\"num_classes\": 2", "\"num_classes\": 2, \"num_queries\": 2")
                .replace("\"schema\": 1,", "\"schema\": 1, $outputs,")
        )
    }

    // A bright thing on the left, which is nearly certain, and a dark one that hardly is.
    private val answer =
        floatArrayOf(0f, 9f, 0f, 1f, 0f, .5f) + floatArrayOf(.25f, .5f, .5f, 1f, .5f, .5f, .1f, .1f)

    private fun artifact(): ArtifactFolder {
        val cases = """[{\"name\": \"one\"},{\"name\": \"two\"}]"""
        val header =
            """{"__metadata__":{"cases":"$cases"},"images":{"dtype":"U8","shape":[2,3,2,3],"data_offsets":[0,36]},""" +
                """"logits":{"dtype":"F32","shape":[2,2,3],"data_offsets":[36,84]},""" +
                """"boxes":{"dtype":"F32","shape":[2,2,4],"data_offsets":[84,148]}}"""
        val (logits, boxes) = answer.take(6) to answer.drop(6)
        val data =
            littleEndian(
                *(logits + logits.reversed()).toFloatArray(),
                *(boxes + boxes.reversed()).toFloatArray(),
            )
        val files =
            mapOf(
                "manifest.json" to manifest(),
                "reference.safetensors" to safetensors(header, ByteArray(36) + data),
            )
        return ArtifactFolder.open(Tiny.write(File(out, "tiny"), Tiny.files() + files))
    }

    @Test
    fun `objects are those of the golden answers`() {
        val cases =
            parseJson(ByteBuffer.wrap(golden("detections.json").readBytes()), "detections.json")
                as List<*>
        for (members in cases.map { it as Map<*, *> }) {
            @Suppress("UNCHECKED_CAST")
            val case = JsonObject(members as Map<String, Any?>, "a case")
            val (rows, boxes) = listOf("logits", "boxes").map { members[it] as List<*> }
            val values = (rows + boxes).flatMap { it as List<*> }.map { (it as Number).toFloat() }
            val classes = case.integer("classes", 2L..9L).toInt()
            val size =
                case.objectAt("resizing").let {
                    if (it.text("mode") == "squash") it.integers("size", 1L..999L)
                    else it.integers("center_crop", 1L..999L)
                }
            val manifest =
                Manifest.read(Tiny.manifest())
                    .copy(queries = rows.size, classes = classes - 1, labels = null)
            val (width, height) = case.integers("picture", 1L..9999L).map { it.toInt() }
            val found =
                detections(
                    values.toFloatArray(),
                    manifest,
                    Resizer(Manifest.resizing(case.objectAt("resizing"), size), width, height),
                    (members["least"] as Number).toFloat(),
                )
            val expected =
                (members["found"] as List<*>).map { row ->
                    (row as Map<*, *>).entries.associate { (key, value) ->
                        key as String to (value as Number).toDouble()
                    }
                }
            assertEquals(expected.size, found.size, case.text("name"))
            for ((own, theirs) in found.zip(expected)) {
                assertEquals(theirs.getValue("index").toInt(), own.index)
                val numbers =
                    mapOf(
                        "share" to own.probability,
                        "left" to own.left,
                        "top" to own.top,
                        "right" to own.right,
                        "bottom" to own.bottom,
                    )
                for ((key, value) in numbers) {
                    assertTrue(abs(theirs.getValue(key) - value) < 1e-5) { "$key $value in $own" }
                }
            }
        }
        assertTrue(cases.size >= 5)
    }

    @Test
    fun `an artifact tells that it detects, and a picture becomes its objects`() {
        val artifact = artifact()
        assertEquals(
            listOf("logits 6 QUERY_SCORES", "boxes 8 BOXES"),
            artifact.manifest.heads.map { "${it.name} ${it.values} ${it.kind}" },
        )
        val found = Classifier(artifact, Tiny.TinyEngine { answer }).classify(Picture(30, 20))
        val (only) = found.objects!!
        assertEquals(listOf("bright"), found.shown.map { it.label })
        assertEquals(listOf(0f, 0f, .5f, 1f), listOf(only.left, only.top, only.right, only.bottom))
        val more = Classifier(artifact, Tiny.TinyEngine { answer }, least = .4f)
        assertEquals(listOf("bright", "dark"), more.classify(Picture(9, 6)).shown.map { it.label })
    }

    @Test
    fun `both outputs are proven and stand in the report`() {
        val artifact = artifact()
        val reference = artifact.reference()
        fun verified(change: (Int, FloatArray) -> Unit): Verification {
            var case = -1
            return verify(
                artifact,
                reference,
                Tiny.TinyEngine { reference.answer(++case).also { change(case, it) } },
            )
        }
        val same = verified { _, _ -> }
        val verdict = same.verdict!!
        assertTrue(verdict.passed) { verdict.reasons.toString() }
        assertEquals(3, verdict.objects)
        assertEquals(setOf("logits", "boxes"), same.run.cases[0].outputs.keys)
        val moved = verified { case, it -> if (case == 1) it[6] += 0.1f }.verdict!!
        assertTrue("boxes: a box is off by 0.300 pixels, more than 0.0500" in moved.reasons) {
            moved.reasons.toString()
        }
        val other = verified { _, it -> it[0] = 20f }.verdict!!
        assertFalse(other.passed)
        assertTrue(other.reasons.any { "logits: the same best class on 2 of 3 objects" in it }) {
            other.reasons.toString()
        }
    }

    @Test
    fun `a detector that contradicts itself is refused in a line`() {
        val wrong =
            mapOf<Pair<String, String>, String>(
                ("\"boxes\"" to "\"corners\"") to "a detector with no boxes, expected [1, 2, 4]",
                ("[1, 2, 4]" to "[1, 3, 4]") to "boxes of shape [1, 3, 4]",
                ("[1, 2, 3]" to "[1, 2, 2]") to "logits of shape [1, 2, 2]",
                ("\"bright\"" to "\"bright\", \"more\"") to "3 labels for 2 classes",
                ("\"num_queries\": 2" to "\"num_queries\": -2") to "num_queries must be",
                ("\"model\": \"tiny\"" to "\"model\": \"tiny\", \"features\": \"map\"") to
                    "returns no features",
            )
        for ((change, words) in wrong) {
            assertRefused(words) {
                Manifest.read(manifest { it.replace(change.first, change.second) })
            }
        }
        assertRefused("outputs") {
            Manifest.read(Tiny.manifest { it.replace("\"num_classes\": 2", "\"num_classes\": 2, \"num_queries\": 2") })
        }
        assertSurvivesMutations(manifest(), 200) { Manifest.read(it) }
    }

    @Test
    fun `an answer that is not a number is a line`() {
        for (place in listOf(0, 13)) {
            val broken = answer.copyOf().also { it[place] = Float.NaN }
            val error =
                assertThrows<EngineException> {
                    Classifier(artifact(), Tiny.TinyEngine { broken }).classify(Picture(9, 6))
                }
            assertTrue("not a number" in error.message!!)
        }
    }
}
