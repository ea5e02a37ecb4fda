package dev.mobilevit.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.graphics.ImageFormat
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.provider.Settings
import android.util.Size
import android.view.View
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView
import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.Plane
import dev.mobilevit.demo.views.ScoresView
import java.io.File
import java.nio.ByteBuffer
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder

@RunWith(RobolectricTestRunner::class)
@Config(application = TestApplication::class)
class MainActivityTest {
    private val litert =
        FakeBackend(refused = mapOf(Accelerator.GPU to "no GPU here"), answer = { flower })
    private val tflite =
        FakeBackend(
            "tflite",
            "TFLite",
            accelerators = listOf(Accelerator.CPU),
            missing = mapOf(Accelerator.CPU to "TFLite is not in this build of the app"),
        )

    private fun screen(vararg backends: FakeBackend = arrayOf(litert, tflite)) = run {
        TestApplication.backends = backends.toList()
        writeArtifact(File(app.library.folder, "one"))
        start<MainActivity>()
    }

    private fun Activity.text(id: Int) = findViewById<TextView>(id).text.toString()

    private fun Activity.chip(index: Int) =
        findViewById<RadioGroup>(R.id.choices).getChildAt(index) as RadioButton

    private fun Activity.best() =
        findViewById<ScoresView>(R.id.scores)
            .getChildAt(0)
            ?.findViewById<TextView>(R.id.label)
            ?.text
            ?.toString()

    @Test
    fun `a photo that was picked is classified and stays when the screen turns`() {
        val screen = screen()
        screen.get().findViewById<View>(R.id.source).performClick()
        val pick = shadowOf(screen.get()).nextStartedActivityForResult
        assertEquals(Intent.ACTION_GET_CONTENT, pick.intent.action)
        shadowOf(screen.get())
            .receiveResult(pick.intent, Activity.RESULT_OK, Intent().setData(shared(photoBytes())))
        idle()
        assertEquals("dahlia", screen.get().best())
        assertEquals(20, app.classifying.state.value.inference!!.milliseconds.size)

        screen.recreate()
        idle()
        assertEquals("dahlia", screen.get().best())
        assertNotNull(app.classifying.state.value.photo)
        assertEquals("one engine for both turns", listOf("cpu"), litert.log)
    }

    @Test
    fun `what is not a picture is refused in a line, and the next one is classified`() {
        val screen = screen()
        for (bytes in listOf(ByteArray(0), "no picture".toByteArray(), photoBytes().copyOf(300))) {
            screen.get().findViewById<View>(R.id.source).performClick()
            val pick = shadowOf(screen.get()).nextStartedActivityForResult
            shadowOf(screen.get())
                .receiveResult(pick.intent, Activity.RESULT_OK, Intent().setData(shared(bytes)))
            idle()
            assertTrue(screen.get().text(R.id.problem).isNotEmpty())
            assertNull(app.classifying.state.value.photo)
        }
    }

    @Test
    fun `an accelerator that refuses the file is said, and no other takes its place`() {
        val screen = screen()
        screen.get().chip(1).performClick()
        idle()
        assertEquals("no GPU here", screen.get().text(R.id.problem))
        assertEquals(
            "the CPU's engine was closed and none opened",
            listOf("cpu", "-cpu"),
            litert.log,
        )
        assertNull(app.classifying.live)

        screen.get().chip(0).performClick()
        idle()
        assertEquals("", screen.get().text(R.id.problem))
        assertEquals(listOf("cpu", "-cpu", "cpu"), litert.log)
    }

    @Test
    fun `a runtime that this build lacks says so when it is touched and to a screen reader`() {
        val screen = screen(tflite, litert) // what is missing comes last
        val chip = screen.get().chip(2)
        assertEquals(
            "TFLite CPU, not available: TFLite is not in this build of the app",
            chip.contentDescription,
        )
        chip.performClick()
        idle()
        assertEquals("TFLite is not in this build of the app", screen.get().text(R.id.problem))
    }

    @Test
    fun `the engine is closed in the background and opened again`() {
        val screen = screen()
        screen.pause().stop()
        idle()
        assertEquals(listOf("cpu", "-cpu"), litert.log)
        screen.restart().start().resume()
        idle()
        assertEquals(listOf("cpu", "-cpu", "cpu"), litert.log)
    }

    @Test
    fun `an engine that fails in the midst is said`() {
        var runs = 0
        val failing =
            FakeBackend(
                answer = {
                    if (++runs > 3) throw dev.mobilevit.core.EngineException("the GPU was lost")
                    else flower
                }
            )
        val screen = screen(failing)
        app.classifying.photo(readPhoto(app.contentResolver, shared(photoBytes())))
        idle()
        assertEquals("the GPU was lost", screen.get().text(R.id.problem))
        assertNull(screen.get().best())
    }

    @Test
    fun `without artifacts the screen says how to get one`() {
        TestApplication.backends = listOf(litert)
        val screen = start<MainActivity>()
        assertTrue(screen.get().text(R.id.problem).contains(app.library.folder.path))
        screen.get().findViewById<View>(R.id.verify).performClick()
        assertEquals(
            ArtifactsActivity::class.java.name,
            shadowOf(screen.get()).nextStartedActivity.component!!.className,
        )
    }

    @Test
    fun `without the permission the camera is asked for, and a refusal leaves the button`() {
        val screen = screen().get()
        assertEquals(
            "The camera is not allowed.\nPhotos work without it.",
            screen.text(R.id.message),
        )
        screen.findViewById<View>(R.id.allow).performClick()
        assertEquals(
            Manifest.permission.CAMERA,
            shadowOf(screen).lastRequestedPermission.requestedPermissions.single(),
        )
        screen.onRequestPermissionsResult(3, arrayOf(Manifest.permission.CAMERA), intArrayOf(-1))
        assertEquals(View.VISIBLE, screen.findViewById<View>(R.id.allow).visibility)
    }

    @Test
    fun `once the system does not ask any more, the button leads to its settings`() {
        val screen = screen().get()
        fun refuse(canAskAgain: Boolean) {
            shadowOf(app.packageManager)
                .setShouldShowRequestPermissionRationale(Manifest.permission.CAMERA, canAskAgain)
            screen.onRequestPermissionsResult(
                3,
                arrayOf(Manifest.permission.CAMERA),
                intArrayOf(-1),
            )
        }
        refuse(canAskAgain = true)
        assertEquals("Allow the camera", screen.text(R.id.allow))
        refuse(canAskAgain = false)
        assertEquals("Open settings", screen.text(R.id.allow))
        screen.findViewById<View>(R.id.allow).performClick()
        val settings = shadowOf(screen).nextStartedActivity
        assertEquals(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, settings.action)
        assertEquals("package:dev.mobilevit.demo", settings.dataString)
    }

    private fun addCamera(vararg sizes: Size) {
        val facts = ShadowCameraCharacteristics.newCameraCharacteristics()
        shadowOf(facts)
            .set(CameraCharacteristics.LENS_FACING, CameraCharacteristics.LENS_FACING_BACK)
        val map = StreamConfigurationMapBuilder.newBuilder()
        sizes.forEach { map.addOutputSize(ImageFormat.YUV_420_888, it) }
        shadowOf(facts).set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, map.build())
        shadowOf(app.getSystemService(CameraManager::class.java)).addCamera("0", facts)
    }

    /** Until the camera's thread has done what it was asked, and has told it. */
    private fun MainActivity.settle() {
        feed?.let { shadowOf(it.thread.looper).idle() }
        idle()
    }

    @Test
    fun `a camera that could not be had is tried again when the screen comes back`() {
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        val screen = screen()
        screen.get().settle()
        assertNull(screen.get().feed)
        assertEquals("This device has no camera.", screen.get().text(R.id.message))
        addCamera()
        screen.pause().resume()
        screen.get().settle()
        assertEquals(
            "The camera gives no pictures that this app can read.",
            screen.get().text(R.id.message),
        )
    }

    @Test
    fun `a photo that was read while the screen turned takes the camera's place`() {
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        addCamera(Size(640, 480))
        val screen = screen()
        screen.get().findViewById<View>(R.id.source).performClick()
        val pick = shadowOf(screen.get()).nextStartedActivityForResult
        app.worker.holds = true
        shadowOf(screen.get())
            .receiveResult(pick.intent, Activity.RESULT_OK, Intent().setData(shared(photoBytes())))
        screen.recreate()
        screen.get().settle()
        assertEquals("Starting the camera…", screen.get().text(R.id.message))
        assertNotNull(screen.get().feed)
        app.worker.release()
        idle()
        assertEquals("dahlia", screen.get().best())
        assertNull(screen.get().feed)
    }

    @Test
    fun `while it verifies, no other engine is open`() {
        val screen = screen()
        screen.get().findViewById<View>(R.id.verify).performClick()
        idle()
        assertEquals(listOf("cpu", "-cpu", "cpu", "-cpu"), litert.log)
    }

    @Test
    fun `a frame of the camera is turned upright, shown and classified`() {
        var seen: FloatArray? = null
        val looking =
            FakeBackend(
                answer = {
                    seen = it.copyOf()
                    flower
                }
            )
        val screen = screen(looking).get()
        val luma =
            ByteBuffer.allocate(96 * 128).apply {
                for (y in 0 until 96) for (x in 0 until 128) put(if (y < 48) 235.toByte() else 16)
            }
        luma.rewind()
        val gray = ByteBuffer.wrap(ByteArray(48 * 64) { 128.toByte() })
        screen
            .FrameSink()
            .accept(
                Frame(
                    128,
                    96,
                    90,
                    Plane(luma, 128, 1),
                    Plane(gray, 64, 1),
                    Plane(gray.duplicate(), 64, 1),
                )
            )
        idle()
        assertEquals("dahlia", screen.best())
        val row = seen!!.copyOfRange(3 * 64 * 32, 3 * 64 * 33)
        assertTrue(
            "the bright half, on top in the sensor, is on the right when upright",
            row[3 * 8] < 0.1f && row[3 * 56] > 0.9f,
        )
    }

    @Test
    fun `an artifact that is chosen keeps the accelerator that was in use`() {
        val screen = screen(FakeBackend(answer = { flower }))
        screen.get().chip(1).performClick()
        idle()
        val other = writeArtifact(File(app.library.folder, "other"))
        app.classifying.use(other)
        idle()
        assertEquals("other", screen.get().text(R.id.artifact))
        assertEquals(Accelerator.GPU, app.classifying.state.value.choice!!.accelerator)
        assertSame(other, app.classifying.state.value.artifact)
    }
}
