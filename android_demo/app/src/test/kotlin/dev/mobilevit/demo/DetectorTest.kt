package dev.mobilevit.demo

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.RectF
import android.widget.LinearLayout
import android.widget.TextView
import dev.mobilevit.demo.views.FrameView
import dev.mobilevit.demo.views.ScoresView
import dev.mobilevit.demo.views.colorOf
import dev.mobilevit.demo.views.placeLabel
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** The screens with a detector's artifact. */
@RunWith(RobolectricTestRunner::class)
@Config(application = TestApplication::class)
class DetectorTest {
    // Two queries: a zinnia (class 1) in the middle half of the crop, and nothing.
    private val scores = FloatArray(22).also { it[1] = 9f }.also { it[21] = 9f }
    private val boxes = floatArrayOf(.5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f)
    private val outputs =
        """"outputs": [{"name": "logits", "shape": [1, 2, 11]}, {"name": "boxes", "shape": [1, 2, 4]}],"""

    private fun open(answer: FloatArray = scores + boxes): MainActivity {
        TestApplication.backends = listOf(FakeBackend(answer = { answer }))
        val files = artifactFiles { manifest ->
            manifest
                .replace("\"num_classes\"", "\"num_queries\": 2, \"num_classes\"")
                .replace("\"schema\": 1,", "\"schema\": 1, $outputs")
                .replace("\"shorter side\", \"size\": [72]", "\"squash\", \"size\": [64, 64]")
        }
        writeArtifact(File(app.library.folder, "detr-tflite-fp32"), files)
        val screen = start<MainActivity>().get()
        app.classifying.photo(readPhoto(app.contentResolver, shared(photoBytes())))
        idle()
        return screen
    }

    private fun problem(screen: MainActivity) = screen.findViewById<TextView>(R.id.problem).text

    @Test
    fun `a box lies over the photograph where it was found, in the color of its class`() {
        val screen = open()
        val frame = screen.findViewById<FrameView>(R.id.frame)
        assertEquals("", problem(screen).toString())
        assertEquals(listOf("zinnia"), frame.objects.map { it.label })
        val rows = screen.findViewById<ScoresView>(R.id.scores)
        assertEquals("zinnia", rows.getChildAt(0).findViewById<TextView>(R.id.label).text)
        assertEquals(1, rows.childCount)
        frame.measure(exactly(400), exactly(300))
        frame.layout(0, 0, 400, 300)
        val drawn = Bitmap.createBitmap(400, 300, Bitmap.Config.ARGB_8888)
        frame.draw(Canvas(drawn))
        // The photograph is 640x427, drawn as 400x267 from 16.6 on: its box from 100 to 300, and from 83 to 217.
        val color = colorOf(1)
        assertEquals(color, drawn.getPixel(200, 216))
        assertEquals(color, drawn.getPixel(300, 150))
        assertEquals(color, drawn.getPixel(100, 150))
        assertTrue(drawn.getPixel(200, 150) != color)
    }

    @Test
    fun `nothing found is a line`() {
        val nothing = FloatArray(22).also { it[10] = 9f }.also { it[21] = 9f }
        assertEquals("Nothing is as sure as 70 %.", problem(open(nothing + boxes)).toString())
    }

    @Test
    fun `the list of artifacts says that it detects`() {
        open()
        val list = start<ArtifactsActivity>().get().findViewById<LinearLayout>(R.id.entries)
        idle()
        val facts = list.getChildAt(0).findViewById<TextView>(R.id.facts).text
        assertTrue("$facts", " · detects · " in facts)
    }

    @Test
    fun `labels stand above their boxes and stay on the picture`() {
        val picture = RectF(10f, 10f, 210f, 110f)
        fun label(left: Float, top: Float) =
            placeLabel(RectF(left, top, left + 20, top + 30), 50f, 15f, picture)
        assertEquals(50f to 60f, label(50f, 60f))
        assertEquals(160f to 60f, label(190f, 60f)) // moved to the left
        assertEquals(50f to 29f, label(50f, 14f)) // within its box
        assertEquals(10f to 60f, label(0f, 60f))
    }
}
