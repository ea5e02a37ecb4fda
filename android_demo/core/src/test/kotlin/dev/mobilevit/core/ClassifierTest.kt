package dev.mobilevit.core

import java.io.File
import java.util.concurrent.CancellationException
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

class ScoresTest {
    @Test
    fun `softmax does not overflow and sums to one`() {
        val found = softmax(floatArrayOf(1000f, 999f, -1000f))
        assertEquals(0.7310586f, found[0], 1e-6f)
        assertEquals(1f, found.sum(), 1e-6f)
        assertEquals(0.5f, softmax(floatArrayOf(0f))[0])
    }

    @Test
    fun `the best classes come first and equal ones by their index`() {
        val top = topK(floatArrayOf(1f, 3f, 3f, 0f), listOf("a", "b", "c", "d"), 3)
        assertEquals(listOf("b", "c", "a"), top.map { it.label })
        assertEquals(
            listOf("class 1", "class 2"),
            topK(floatArrayOf(1f, 3f, 3f), null, 2).map { it.label },
        )
        assertEquals(2, topK(floatArrayOf(1f, 2f), null).size)
        assertThrows<IllegalArgumentException> { topK(floatArrayOf(1f, 2f), listOf("a")) }
    }
}

class InputTest {
    private val input = Manifest.read(Tiny.manifest()).input
    private val picture = Picture(3, 2, ByteArray(18) { (it * 15).toByte() })

    @Test
    fun `bytes are scaled to the range in either layout`() {
        val nhwc = FloatArray(18).also { input.fill(picture, it) }
        assertEquals((0..17).map { it * 15 / 255f }, nhwc.toList())
        val nchw =
            FloatArray(18).also { input.copy(layout = Layout.NCHW, low = -1f).fill(picture, it) }
        val expected =
            (0..2).flatMap { channel -> (0..5).map { -1 + (3 * it + channel) * 15 / 255f * 2 } }
        assertEquals(expected, nchw.toList())
        assertThrows<IllegalArgumentException> { input.fill(Picture(2, 3), nhwc) }
    }
}

class LatencyTest {
    @Test
    fun `percentiles are the nearest ranks`() {
        assertEquals(
            listOf(5.0, 9.0),
            Samples((10 downTo 1).map { it.toDouble() }).run { listOf(p50, p90) },
        )
        assertEquals(
            listOf(6.0, 10.0),
            Samples((1..11).map { it.toDouble() }).run { listOf(p50, p90) },
        )
        assertEquals(listOf(7.1235, 7.1235), Samples(listOf(7.12345)).run { listOf(p50, p90) })
        for (wrong in listOf(emptyList(), listOf(-1.0), listOf(Double.NaN), List(10_001) { 1.0 })) {
            assertThrows<IllegalArgumentException> { Samples(wrong) }
        }
    }
}

class ClassifierTest(@param:TempDir private val parent: File) {
    private val artifact = ArtifactFolder.open(Tiny.write(File(parent, "tiny")))
    private val bright = Picture(30, 20, ByteArray(1800) { -1 })

    @Test
    fun `a picture of any size becomes labels and probabilities`() {
        val classifier = Classifier(artifact, Tiny.TinyEngine())
        val found = classifier.classify(bright)
        assertEquals("bright", found.top[0].label)
        assertEquals(listOf(0f, 1f), found.scores.toList())
        assertEquals("dark", classifier.classify(Picture(20, 60)).top[0].label)
    }

    @Test
    fun `warm-up is run and not measured`() {
        val engine = Tiny.TinyEngine()
        val seen = ArrayList<Int>()
        val latency =
            Classifier(artifact, engine)
                .measure(
                    bright,
                    warmUp = 3,
                    samples = 4,
                    progress = { done, total -> seen += 10 * done + total },
                )
        assertEquals(
            listOf(7, 3, 4, 4),
            listOf(
                engine.runs,
                latency.warmUp,
                latency.inference.milliseconds.size,
                latency.withPreprocessing!!.milliseconds.size,
            ),
        )
        assertEquals((1..7).map { 10 * it + 7 }, seen)
        assertThrows<CancellationException> {
            Classifier(artifact, engine).measure(bright, isCancelled = { engine.runs == 9 })
        }
        assertEquals(9, engine.runs)
    }

    @Test
    fun `an answer that is not one finite score for each class is an error`() {
        val wrong =
            mapOf(
                floatArrayOf(1f) to "1 numbers, expected 2",
                floatArrayOf(1f, Float.NaN) to "not finite",
            )
        for ((answer, words) in wrong) {
            val error =
                assertThrows<EngineException> {
                    Classifier(artifact, Tiny.TinyEngine { answer }).classify(bright)
                }
            assertTrue(words in error.message!!)
        }
    }
}
