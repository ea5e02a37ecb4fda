package dev.mobilevit.core

import java.io.File
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.RejectedExecutionException
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

class LiveClassifierTest(@param:TempDir private val parent: File) {
    private val waiting = ArrayDeque<Runnable>()
    private val results = ArrayList<Classification>()
    private val errors = ArrayList<Exception>()
    private val pictures = ArrayList<Picture>()

    private fun live(
        worker: Executor = Executor { waiting += it },
        engine: Engine = Tiny.TinyEngine(),
    ): LiveClassifier {
        val artifact = ArtifactFolder.open(Tiny.write(File(parent, "tiny")))
        return LiveClassifier(Classifier(artifact, engine), worker, results::add, errors::add)
    }

    private fun LiveClassifier.offer(value: Int, orientation: Int = 1): Boolean =
        offer(6, 4, orientation) {
            it.rgb.fill(value.toByte())
            pictures += it
        }

    @Test
    fun `frames that come while one is worked on are dropped, not queued`() {
        val live = live()
        assertTrue(live.offer(255))
        repeat(9) { assertFalse(live.offer(0)) }
        assertEquals(1, waiting.size)
        waiting.removeFirst().run()
        assertEquals("bright", results.single().top[0].label) // no later frame was written over it
        assertTrue(live.offer(0))
        waiting.removeFirst().run()
        assertEquals(listOf("bright", "dark"), results.map { it.top[0].label })
        assertEquals(9, live.dropped)
    }

    @Test
    fun `the same picture takes every frame`() {
        val live = live()
        repeat(5) {
            live.offer(1, orientation = 6)
            waiting.removeFirst().run()
        }
        assertEquals(1, pictures.distinctBy(System::identityHashCode).size)
        assertEquals(5, results.size)
    }

    @Test
    fun `an error is told and the next frame is taken`() {
        val live = live(engine = Tiny.TinyEngine { throw EngineException("the GPU has gone") })
        repeat(2) {
            assertTrue(live.offer(1))
            waiting.removeFirst().run()
        }
        assertEquals(listOf("the GPU has gone", "the GPU has gone"), errors.map { it.message })
    }

    @Test
    fun `a frame that cannot be written leaves the way free`() {
        val live = live()
        assertThrows<IllegalStateException> {
            live.offer(6, 4, 1) { throw IllegalStateException("the image is closed") }
        }
        assertTrue(live.offer(1))
    }

    @Test
    fun `after closing nothing is taken and nothing is told`() {
        val live = live()
        live.offer(1)
        live.close()
        waiting.removeFirst().run()
        assertFalse(live.offer(1))
        assertEquals(listOf(0, 0), listOf(results.size, errors.size))
        assertFalse(live(worker = { throw RejectedExecutionException() }).offer(1))
    }

    @Test
    fun `nothing is told of a frame that is worked on while it is closed`() {
        var live: LiveClassifier? = null
        live =
            live(
                engine =
                    Tiny.TinyEngine {
                        live!!.close()
                        it
                    }
            )
        live.offer(1)
        waiting.removeFirst().run()
        val failing =
            live(
                engine =
                    Tiny.TinyEngine {
                        live!!.close()
                        throw EngineException("gone")
                    }
            )
        live = failing
        failing.offer(1)
        waiting.removeFirst().run()
        assertEquals(listOf(0, 0), listOf(results.size, errors.size))
    }

    @Test
    fun `frames of several threads are never mixed`() {
        val worker = Executors.newSingleThreadExecutor()
        val live = live(worker)
        val taken = AtomicInteger()
        val cameras =
            List(3) { camera ->
                thread {
                    repeat(2000) { frame ->
                        val value = if ((camera + frame) % 2 == 0) 0 else -1
                        if (live.offer(64, 48, 6) { it.rgb.fill(value.toByte()) }) {
                            taken.incrementAndGet()
                        }
                    }
                }
            }
        cameras.forEach { it.join() }
        worker.shutdown()
        assertTrue(worker.awaitTermination(30, TimeUnit.MINUTES))
        assertEquals(6000, taken.get() + live.dropped.toInt())
        assertEquals(taken.get(), results.size)
        assertTrue(results.all { it.scores[0] == 0f || it.scores[0] == 1f })
        assertEquals(emptyList<Exception>(), errors)
    }
}
