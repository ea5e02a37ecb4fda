package dev.mobilevit.demo

import android.app.Activity
import android.content.Intent
import android.view.View
import android.widget.LinearLayout
import android.widget.TextView
import dev.mobilevit.demo.views.FactsView
import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config

/** Files of several input sizes on the screens. */
@RunWith(RobolectricTestRunner::class)
@Config(application = TestApplication::class)
class EntryPointTest {
    private val backend = FakeBackend()

    private fun write() = run {
        TestApplication.backends = listOf(backend)
        writeArtifact(File(app.library.folder, "one"), severalFiles())
    }

    private fun FactsView.facts() =
        (0 until childCount).associate {
            val row = getChildAt(it)
            row.findViewById<TextView>(R.id.fact).text.toString() to
                row.findViewById<TextView>(R.id.value).text.toString()
        }

    private fun Activity.photo(bytes: ByteArray): Map<String, String> {
        findViewById<View>(R.id.source).performClick()
        val pick = shadowOf(this).nextStartedActivityForResult
        shadowOf(this)
            .receiveResult(pick.intent, Activity.RESULT_OK, Intent().setData(shared(bytes)))
        idle()
        return findViewById<FactsView>(R.id.times).facts()
    }

    @Test
    fun `the screen says which entry answered a photo`() {
        write()
        val sizes = ArrayList<Int>()
        backend.answer = { sizes += it.size; network(it) }
        val facts = start<MainActivity>().get().photo(photoBytes()) // 640 x 427
        assertEquals("image_64x96 · 96 × 64", facts["Answered by"])
        assertEquals(3 * 64 * 96, sizes.last())
        assertTrue("every entry is warmed up", 3 * 64 * 64 in sizes)
    }

    @Test
    fun `of one size nothing is said`() {
        TestApplication.backends = listOf(backend)
        writeArtifact(File(app.library.folder, "one"))
        val facts = start<MainActivity>().get().photo(photoBytes())
        assertEquals(setOf("Inference", "With resizing"), facts.keys)
    }

    @Test
    fun `verification runs the cases of all entries and times each`() {
        val artifact = write()
        app.verifying.start(artifact)
        idle()
        val done = app.verifying.state.value as VerifyState.Done
        assertTrue(done.rows.all { it.verification.verdict!!.passed })
        val run = JSONObject(done.report.readText()).getJSONArray("runs").getJSONObject(0)
        assertEquals(29, run.getJSONArray("cases").length())
        val entries = run.getJSONObject("latency").getJSONArray("entries")
        val names = (0 until entries.length()).map { entries.getJSONObject(it).getString("name") }
        assertEquals(listOf("serving_default", "image_64x96"), names)
        val screen = start<VerifyActivity>(VerifyActivity.intent(app, artifact)).get()
        val row = screen.findViewById<LinearLayout>(R.id.rows).getChildAt(0)
        val facts = row.findViewById<FactsView>(R.id.facts).facts()
        assertTrue(facts.toString(), facts.getValue("image_64x96").startsWith("p50 "))
    }
}
