package dev.mobilevit.demo

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Rect
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import dev.mobilevit.core.Accelerator
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.ParameterizedRobolectricTestRunner
import org.robolectric.ParameterizedRobolectricTestRunner.Parameters
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config

private const val GPU_REASON = "LiteRT refuses the file on GPU: cannot create an OpenCL context"

/**
 * Every screen in every form: what is to be read can be read, and what is to be touched can be
 * touched.
 */
@RunWith(ParameterizedRobolectricTestRunner::class)
@Config(application = TestApplication::class)
class ScreensTest(
    private val form: String,
    private val qualifiers: String,
    private val fontScale: Float,
) {
    @Before
    fun screen() {
        RuntimeEnvironment.setQualifiers(qualifiers)
        RuntimeEnvironment.setFontScale(fontScale)
        TestApplication.backends =
            listOf(
                FakeBackend(
                    refused = mapOf(Accelerator.GPU to GPU_REASON),
                    answer = { slowly { flower } },
                ),
                FakeBackend(
                    "tflite",
                    "TFLite",
                    accelerators = listOf(Accelerator.CPU),
                    answer = { slowly { noisy(network(it)) } },
                ),
                FakeBackend(
                    "executorch",
                    "ExecuTorch",
                    "executorch",
                    listOf(Accelerator.CPU),
                    mapOf(Accelerator.CPU to "ExecuTorch is not in this build of the app"),
                ),
            )
    }

    @Test
    fun `the main screen with a photo`() {
        writeArtifact(
            File(app.library.folder, "mobilevit_xxs-tflite-fp32"),
            artifactFiles(bytes = 3_661_325),
        )
        val screen = start<MainActivity>().get()
        app.classifying.photo(readPhoto(app.contentResolver, shared(photoBytes())))
        idle()
        check(
            screen,
            "main",
            "mobilevit_xxs-tflite-fp32",
            "LiteRT CPU",
            "LiteRT GPU",
            "TFLite CPU",
            "dahlia",
            "bee",
            "Inference",
            "Verify",
        )
    }

    @Test
    fun `the main screen says which of several sizes answered`() {
        writeArtifact(File(app.library.folder, "vit_tiny-tflite-fp32"), severalFiles())
        val screen = start<MainActivity>().get()
        app.classifying.photo(readPhoto(app.contentResolver, shared(photoBytes())))
        idle()
        check(screen, "main-sizes", "Answered by", "image_64x96 · 96 × 64")
    }

    @Test
    fun `the main screen without the camera's permission and with a GPU that refuses`() {
        writeArtifact(
            File(app.library.folder, "mobilevit_xxs-tflite-fp32"),
            artifactFiles(bytes = 3_661_325),
        )
        TestApplication.backends =
            TestApplication.backends.take(1) +
                FakeBackend(
                    "tflite",
                    "TFLite",
                    accelerators = listOf(Accelerator.CPU),
                    missing = mapOf(Accelerator.CPU to "TFLite is not in this build of the app"),
                )
        val screen = start<MainActivity>().get()
        app.classifying.choose(app.classifying.state.value.choices[1])
        idle()
        check(screen, "refused", "The camera is not allowed.", "Allow the camera", GPU_REASON)
    }

    @Test
    fun `the artifacts with one that is damaged`() {
        writeArtifact(
            File(app.library.folder, "mobilevit_xxs-tflite-fp32"),
            artifactFiles(bytes = 3_661_325),
        )
        writeArtifact(
            File(app.filesDir, "imported/efficientvit_b1-executorch-fp32"),
            artifactFiles("executorch", 11_204_096),
        )
        val damaged = File(app.library.folder, "tiny_vit_5m_224-tflite-int8")
        writeArtifact(damaged, artifactFiles(bytes = 5_912_300))
        File(damaged, "mobilevit_xxs.tflite").appendText("!")
        val screen = start<ArtifactsActivity>().get()
        val problem = app.library.entries().single { it.problem != null }.problem!!
        check(
            screen,
            "artifacts",
            "mobilevit_xxs-tflite-fp32",
            "efficientvit_b1-executorch-fp32",
            problem,
            "Open a .zip…",
        )
    }

    @Test
    fun `the verdict before, while and after it runs`() {
        val artifact =
            writeArtifact(
                File(app.library.folder, "mobilevit_xxs-tflite-fp32"),
                artifactFiles(bytes = 3_661_325),
            )
        (TestApplication.backends[0] as FakeBackend).answer = {
            slowly { network(it).map { score -> score + 1e-5f }.toFloatArray() }
        }
        val screen = start<VerifyActivity>(VerifyActivity.intent(app, artifact)).get()
        check(screen, "verify-idle", artifact.name, "Run the reference cases")

        screen.findViewById<View>(R.id.run).performClick()
        idle()
        val done = app.verifying.state.value as VerifyState.Done
        check(
            screen,
            "verify-done",
            "LiteRT CPU",
            "Passed",
            "LiteRT GPU",
            "Did not run",
            GPU_REASON,
            "27 of 27 cases",
            "Share report",
        )

        app.verifying.state.value =
            VerifyState.Running(artifact.name, "TFLite CPU", 2, 3, 11, 27, done.rows.take(1))
        check(
            screen,
            "verify-running",
            "TFLite CPU · runtime 3 of 3",
            "11 of 27 cases",
            "Passed",
            "Cancel",
        )

        app.verifying.state.value =
            VerifyState.Stopped(
                artifact.name,
                "mobilevit_xxs.tflite is not the file of its manifest",
            )
        check(
            screen,
            "verify-stopped",
            "mobilevit_xxs.tflite is not the file of its manifest",
            "Run again",
        )
    }

    private fun check(screen: Activity, name: String, vararg texts: String) {
        idle()
        val root = screen.window.decorView
        root.measure(exactly(root.width), exactly(root.height))
        root.layout(0, 0, root.width, root.height)
        capture(root, "$name-$form")
        val shown = views(root).filterIsInstance<TextView>().filter { it.isShown && it.height > 0 }
        for (text in texts) {
            val view = shown.find {
                text == it.text.toString().replace("\u200B", "") || text in it.text.lines()
            }
            assertTrue(
                "\"$text\" is not shown on $name, but ${shown.map { it.text }}",
                view != null,
            )
            val lines = view!!.layout
            assertTrue(
                "\"$text\" is cut on $name",
                view.height >= lines.getLineTop(minOf(lines.lineCount, view.maxLines)),
            )
        }
        val density = screen.resources.displayMetrics.density
        for (view in views(root).filter { it.isShown && it.isClickable }) {
            val label =
                (view as? TextView)?.text
                    ?: view.contentDescription
                    ?: views(view).filterIsInstance<TextView>().joinToString { it.text }
            assertTrue(
                "what ${view.javaClass.simpleName} on $name does is not said",
                label.isNotEmpty(),
            )
            assertTrue(
                "$label on $name is ${view.height / density} dp high",
                view.height >= 48 * density,
            )
        }
        for (view in
            listOf(R.id.verify, R.id.source, R.id.run, R.id.share, R.id.open).mapNotNull {
                screen.findViewById<View>(it)
            }) {
            val visible = Rect()
            if (view.isShown) {
                assertTrue(
                    "a button of $name is off the screen",
                    view.getGlobalVisibleRect(visible),
                )
                assertEquals("a button of $name is off the screen", view.height, visible.height())
            }
        }
    }

    companion object {
        @JvmStatic
        @Parameters(name = "{0}")
        fun forms() =
            listOf(
                arrayOf<Any>("light", "w412dp-h915dp-port-notnight-xhdpi", 1f),
                arrayOf<Any>("dark", "w412dp-h915dp-port-night-xhdpi", 1f),
                arrayOf<Any>("small", "w360dp-h640dp-port-notnight-xhdpi", 1f),
                arrayOf<Any>("large-text", "w360dp-h640dp-port-night-xhdpi", 1.6f),
                arrayOf<Any>("landscape", "w800dp-h360dp-land-night-xhdpi", 1f),
            )
    }
}

internal fun exactly(size: Int) = View.MeasureSpec.makeMeasureSpec(size, View.MeasureSpec.EXACTLY)

private fun views(root: View): List<View> =
    listOf(root) +
        if (root is ViewGroup) (0 until root.childCount).flatMap { views(root.getChildAt(it)) }
        else emptyList()

private fun capture(root: View, name: String) {
    val bitmap = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
    root.draw(Canvas(bitmap))
    val folder = File(System.getProperty("screens") ?: return).apply { mkdirs() }
    File(folder, "$name.png").outputStream().use {
        bitmap.compress(Bitmap.CompressFormat.PNG, 100, it)
    }
}

private fun noisy(scores: FloatArray) =
    FloatArray(scores.size) { scores[it] * (1 + 1e-6f * (it % 3)) }

/** Times on the screens that look like a phone's. */
private fun <T> slowly(work: () -> T): T {
    Thread.sleep(2)
    return work()
}
