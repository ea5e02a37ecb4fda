package dev.mobilevit.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64
import java.util.concurrent.CancellationException
import kotlin.math.abs
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

class VerificationTest(@param:TempDir private val parent: File) {
    private val artifact = ArtifactFolder.open(Tiny.write(File(parent, "tiny")))
    private val reference = artifact.reference()

    @Test
    fun `all cases run in order and the verdict is that of the gate`() {
        val seen = ArrayList<Int>()
        val found =
            verify(
                artifact,
                reference,
                Tiny.TinyEngine(),
                { done, total -> seen += 10 * done + total },
            )
        assertEquals(listOf(13, 23, 33), seen)
        assertEquals(listOf("one", "two", "noise"), found.run.cases.map { it.name })
        assertTrue(found.verdict!!.passed) { found.verdict.toString() }
        assertTrue(found.verdict.worstSqnr > 100)
    }

    @Test
    fun `wrong answers fail with the worst case and the reason`() {
        val swapped = verify(artifact, reference, Tiny.TinyEngine { it.reversedArray() }).verdict!!
        assertFalse(swapped.passed)
        assertTrue(swapped.reasons.any { "is below 90 dB" in it }) { swapped.reasons.toString() }
        val constant =
            verify(artifact, reference, Tiny.TinyEngine { floatArrayOf(0f, 1f) }).verdict!!
        assertTrue("it answers every image with the same scores" in constant.reasons)
        val broken =
            verify(artifact, reference, Tiny.TinyEngine { floatArrayOf(Float.NaN, 1f) }).verdict!!
        assertTrue("scores are not finite" in broken.reasons)
    }

    @Test
    fun `edge cases do not count for files of integers`() {
        val integers =
            ArtifactFolder.open(
                Tiny.write(
                    File(parent, "int8"),
                    Tiny.files() +
                        ("manifest.json" to Tiny.manifest { it.replace("fp32", "int8") }),
                )
            )
        val edge = 2
        for ((wrong, passes) in mapOf(edge to true, 0 to false)) {
            var case = 0
            val engine = Tiny.TinyEngine { if (case++ == wrong) it.reversedArray() else it }
            val verdict = verify(integers, reference, engine).verdict!!
            assertEquals(listOf(passes, 2), listOf(verdict.passed, verdict.cases))
            assertEquals(3, verdict.caseSqnr.size)
        }
    }

    @Test
    fun `a runtime that fails is an error without cases`() {
        var left = 2
        val engine = Tiny.TinyEngine {
            if (left-- == 0) throw IllegalStateException("out of\nmemory") else it
        }
        val found = verify(artifact, reference, engine)
        assertEquals(null, found.verdict)
        assertEquals(listOf("out of memory", 0), listOf(found.run.error, found.run.cases.size))
        val short = verify(artifact, reference, Tiny.TinyEngine { floatArrayOf(1f) })
        assertEquals("the file answered 1 numbers, expected 2", short.run.error)
        val silent = verify(artifact, reference, Tiny.TinyEngine { throw IllegalStateException() })
        assertEquals("IllegalStateException", silent.run.error)
        assertThrows<IllegalStateException> { // a fault of the app is not one of the runtime
            verify(
                artifact,
                reference,
                Tiny.TinyEngine(),
                { _, _ -> throw IllegalStateException() },
            )
        }
    }

    @Test
    fun `it can be cancelled between cases`() {
        val engine = Tiny.TinyEngine()
        assertThrows<CancellationException> {
            verify(artifact, reference, engine, isCancelled = { engine.runs == 2 })
        }
        assertEquals(2, engine.runs)
    }

    @Test
    fun `answers are as near as the SDK finds them`() {
        val cases =
            parseJson(ByteBuffer.wrap(golden("metrics.json").readBytes()), "metrics.json")
                as List<*>
        for (case in cases.map { it as Map<*, *> }) {
            fun numbers(vararg keys: String) = keys.map { (case[it] as Number).toDouble() }
            val found =
                compare(
                    answers(case, "reference"),
                    answers(case, "outputs"),
                    Kind.valueOf((case["kind"] as String).uppercase().replace('-', '_')),
                    (case["counted"] as List<*>).map { it as Boolean }.toBooleanArray(),
                    (case["classes"] as Long?)?.toInt() ?: 1,
                )
            val expected =
                (case["cases"] as List<*>).map { (it as Number).toDouble() } +
                    numbers("worst", "median", "max_abs_diff")
            val ours =
                found.caseSqnr.toList() +
                    listOf(found.worstSqnr, found.medianSqnr, found.maxAbsDiff)
            assertEquals(expected.size, ours.size)
            for ((theirs, own) in expected.zip(ours)) {
                assertTrue(abs(theirs - own) <= 1e-9 * maxOf(1.0, abs(theirs))) {
                    "${case["name"]}: $own is not $theirs"
                }
            }
            assertEquals(case["top1"], found.top1, "${case["name"]}")
        }
        assertTrue(cases.size >= 15)
    }

    private fun answers(case: Map<*, *>, key: String): List<FloatArray> {
        val (count, size) = (case["shape"] as List<*>).map { (it as Long).toInt() }
        val bytes =
            ByteBuffer.wrap(Base64.getDecoder().decode(case[key] as String))
                .order(ByteOrder.LITTLE_ENDIAN)
        val values = bytes.asFloatBuffer()
        return List(count) { FloatArray(size).also(values::get) }
    }
}
