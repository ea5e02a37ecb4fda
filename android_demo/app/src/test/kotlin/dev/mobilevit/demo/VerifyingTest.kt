package dev.mobilevit.demo

import android.content.Intent
import android.view.View
import android.widget.TextView
import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactException
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EngineException
import dev.mobilevit.demo.engines.Backend
import java.io.File
import java.security.MessageDigest
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(application = TestApplication::class)
class VerifyingTest {
    private val report
        get() = File(app.library.reports, "one.device-report.json")

    private val error
        get() = File(app.library.reports, "one.error.txt")

    private fun verify(vararg backends: FakeBackend): VerifyState {
        TestApplication.backends = backends.toList()
        app.verifying.start(writeArtifact(File(app.library.folder, "one")))
        idle()
        return app.verifying.state.value
    }

    private fun runs() =
        JSONObject(report.readText()).getJSONArray("runs").let { all ->
            (0 until all.length()).map { all.getJSONObject(it) }
        }

    @Test
    fun `each accelerator is a run of all cases with times, in a report with its digest`() {
        val backend = FakeBackend()
        val done = verify(backend) as VerifyState.Done
        assertEquals(report, done.report)
        assertEquals(listOf("LiteRT CPU", "LiteRT GPU"), done.rows.map { it.title })
        assertTrue(done.rows.all { it.verification.verdict!!.passed })
        assertEquals(listOf("cpu", "-cpu", "gpu", "-gpu"), backend.log)
        assertEquals(listOf("cpu", "gpu"), runs().map { it.getString("accelerator") })
        for (run in runs()) {
            assertEquals(27, run.getJSONArray("cases").length())
            val latency = run.getJSONObject("latency")
            assertEquals(50, latency.getJSONObject("inference_ms").getJSONArray("samples").length())
            assertEquals(
                50,
                latency.getJSONObject("with_preprocessing_ms").getJSONArray("samples").length(),
            )
        }
        val bytes = report.readBytes()
        val end = String(bytes).lastIndexOf("\"digest\":\"") + 10
        val digest =
            MessageDigest.getInstance("SHA-256").digest(bytes.copyOf(end)).joinToString("") {
                "%02x".format(it)
            }
        assertEquals(digest, JSONObject(String(bytes)).getString("digest"))
    }

    @Test
    fun `wrong answers fail, and the report has them as they are`() {
        val done = verify(FakeBackend(answer = { network(it).reversedArray() })) as VerifyState.Done
        assertTrue(done.rows.none { it.verification.verdict!!.passed })
        assertEquals(27, runs()[0].getJSONArray("cases").length())
    }

    @Test
    fun `an accelerator that refuses or fails is a run with an error and no cases`() {
        var runs = 0
        val refusing = FakeBackend(refused = mapOf(Accelerator.GPU to "no GPU here"))
        val failing =
            FakeBackend("tflite", "TFLite", accelerators = listOf(Accelerator.CPU)) {
                if (++runs == 9) throw EngineException("lost") else network(it)
            }
        val done = verify(refusing, failing) as VerifyState.Done
        assertEquals(listOf(true, null, null), done.rows.map { it.verification.verdict?.passed })
        assertEquals(listOf("no GPU here", "lost"), runs().drop(1).map { it.getString("error") })
        assertTrue(
            runs().drop(1).all { it.getJSONArray("cases").length() == 0 && it.isNull("latency") }
        )
        assertEquals(
            "all are closed",
            refusing.log.count { it.startsWith("-") },
            refusing.log.count { !it.startsWith("-") },
        )
    }

    private val absent =
        FakeBackend(
            "tflite",
            "TFLite",
            accelerators = listOf(Accelerator.CPU),
            missing = mapOf(Accelerator.CPU to "not in this build"),
        )

    @Test
    fun `a runtime that this build lacks is left out`() {
        val done =
            verify(FakeBackend(accelerators = listOf(Accelerator.CPU)), absent) as VerifyState.Done
        assertEquals(listOf("LiteRT CPU"), done.rows.map { it.title })
    }

    @Test
    fun `where this build has no runtime for a file, the report says so`() {
        val done = verify(absent) as VerifyState.Done
        assertEquals("not in this build", done.rows.single().verification.run.error)
    }

    @Test
    fun `cancelling stops between two cases and writes no report`() {
        var runs = 0
        val backend = FakeBackend {
            if (++runs == 5) app.verifying.cancel()
            network(it)
        }
        val state = verify(backend) as VerifyState.Stopped
        assertEquals(5, runs)
        assertTrue(state.reason.startsWith("Cancelled"))
        assertEquals(listOf("cpu", "-cpu"), backend.log)
        assertFalse(report.exists())
        assertEquals(state.reason, error.readText().trim())
    }

    @Test
    fun `a second start while one runs changes nothing`() {
        TestApplication.backends = listOf(FakeBackend())
        val artifact = writeArtifact(File(app.library.folder, "one"))
        app.worker.holds = true
        app.verifying.start(artifact)
        app.verifying.start("two") { throw ArtifactException("must not be opened") }
        assertEquals("one", (app.verifying.state.value as VerifyState.Running).name)
        app.worker.release()
        idle()
        assertTrue(app.verifying.state.value is VerifyState.Done)
    }

    @Test
    fun `adb's request is run and its screen shown, also after a turn`() {
        TestApplication.backends = listOf(FakeBackend())
        writeArtifact(File(app.library.folder, "one"))
        val main = start<MainActivity>(Intent().putExtra("verify", "one"))
        assertEquals(
            VerifyActivity::class.java.name,
            shadowOf(main.get()).nextStartedActivity.component!!.className,
        )
        assertTrue(report.isFile)
        assertNull(report.parentFile!!.listFiles()!!.find { it.name.endsWith(".part") })
        val first = report.lastModified()
        main.recreate()
        idle()
        assertEquals("a turn does not run it again", first, report.lastModified())
        assertNull(shadowOf(main.get()).nextStartedActivity)
    }

    @Test
    fun `adb is told why an artifact cannot be verified`() {
        TestApplication.backends = listOf(FakeBackend())
        val folder = File(app.library.folder, "one")
        writeArtifact(folder)
        File(folder, "reference.safetensors").writeBytes(ByteArray(5))
        start<MainActivity>(Intent().putExtra("verify", "one"))
        val line = error.readText()
        assertTrue(
            line,
            line.endsWith("\n") && line.count { it == '\n' } == 1 && "reference.safetensors" in line,
        )
        assertFalse(report.exists())
        val screen = start<VerifyActivity>().get()
        assertEquals(line.trim(), screen.findViewById<TextView>(R.id.reason).text.toString())

        writeArtifact(folder)
        screen.findViewById<View>(R.id.run).performClick()
        idle()
        assertTrue(app.verifying.state.value is VerifyState.Done)
    }

    @Test
    fun `a report is shared as a file that can be read`() {
        TestApplication.backends = listOf(FakeBackend())
        app.verifying.start(writeArtifact(File(app.library.folder, "one")))
        val screen = start<VerifyActivity>().get()
        screen.findViewById<View>(R.id.share).performClick()
        val chooser = shadowOf(screen).nextStartedActivity
        @Suppress("DEPRECATION")
        val send = chooser.getParcelableExtra<Intent>(Intent.EXTRA_INTENT)!!
        assertEquals("application/json", send.type)
        assertTrue(send.flags and Intent.FLAG_GRANT_READ_URI_PERMISSION != 0)
        assertEquals(
            "content://dev.mobilevit.demo.reports/one.device-report.json",
            send.clipData!!.getItemAt(0).uri.toString(),
        )
    }

    @Test
    fun `a file that was replaced since it was opened is not verified in the old one's name`() {
        TestApplication.backends = listOf(FakeBackend())
        val artifact = writeArtifact(File(app.library.folder, "one"))
        artifact.file.writeBytes(ByteArray(artifact.file.length().toInt()))
        app.verifying.start(artifact)
        idle()
        val stopped = app.verifying.state.value as VerifyState.Stopped
        assertEquals(
            "mobilevit_xxs.tflite is not the file of its manifest.json: its SHA-256 differs",
            stopped.reason,
        )
    }

    @Test
    fun `a runtime that fails in closing ends the verification in words`() {
        val fake = FakeBackend()
        val failing =
            object : Backend by fake {
                override fun open(artifact: ArtifactFolder, accelerator: Accelerator) =
                    object : Engine by fake.open(artifact, accelerator) {
                        override fun close() {
                            throw IllegalStateException("it was lost")
                        }
                    }
            }
        TestApplication.backends = listOf(failing)
        app.verifying.start(writeArtifact(File(app.library.folder, "one")))
        idle()
        assertEquals("The verification failed: it was lost\n", error.readText())
        assertFalse(report.exists())
    }

    @Test
    fun `what adb asked for is not done again from the list of recent apps`() {
        TestApplication.backends = listOf(FakeBackend())
        writeArtifact(File(app.library.folder, "one"))
        start<MainActivity>(
            Intent().putExtra("verify", "one").addFlags(Intent.FLAG_ACTIVITY_LAUNCHED_FROM_HISTORY)
        )
        assertEquals(VerifyState.Idle, app.verifying.state.value)
    }
}
