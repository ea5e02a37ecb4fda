package dev.mobilevit.demo

import android.content.Context
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.os.Build
import android.os.PowerManager
import android.util.Size
import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.EngineException
import dev.mobilevit.core.Filter
import dev.mobilevit.core.Resizer
import dev.mobilevit.core.Resizing
import dev.mobilevit.demo.engines.Backend
import dev.mobilevit.demo.engines.Choice
import dev.mobilevit.demo.engines.ExecutorchBackend
import dev.mobilevit.demo.engines.LitertBackend
import dev.mobilevit.demo.engines.TfliteBackend
import dev.mobilevit.demo.engines.allBackends
import dev.mobilevit.demo.engines.choices
import dev.mobilevit.demo.engines.requireLoaded
import dev.mobilevit.demo.views.seenSize
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowBuild
import org.robolectric.util.ReflectionHelpers

@RunWith(RobolectricTestRunner::class)
@Config(application = TestApplication::class)
class PartsTest {
    @Test
    fun `photographs decoded by Android, turned and resized are the SDK's pixels`() {
        val bytes = golden("preprocessing.safetensors").readBytes()
        val length = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).long.toInt()
        val header = JSONObject(String(bytes, 8, length))
        fun tensor(name: String) =
            header.getJSONObject(name).getJSONArray("data_offsets").let {
                bytes.copyOfRange(8 + length + it.getInt(0), 8 + length + it.getInt(1))
            }
        val cases = JSONArray(header.getJSONObject("__metadata__").getString("cases"))
        assertTrue(cases.length() > 20)
        val wrong =
            (0 until cases.length())
                .map { cases.getJSONObject(it) }
                .mapNotNull { case ->
                    val name = case.getString("name")
                    val photo =
                        readPhoto(app.contentResolver, shared(tensor("$name/file"), name)).picture
                    val resizing =
                        resizing(
                            case.getJSONObject("resizing"),
                            header.getJSONObject("$name/expected").getJSONArray("shape"),
                        )
                    val pixels = Resizer(resizing, photo.width, photo.height).resize(photo).rgb
                    val differences =
                        pixels.zip(tensor("$name/expected")) { a, b ->
                            abs((a.toInt() and 255) - (b.toInt() and 255))
                        }
                    if (differences.average() <= 1 && differences.max() <= 3) null
                    else "$name: mean ${differences.average()}, worst ${differences.max()}"
                }
        assertEquals(emptyList<String>(), wrong)
    }

    private fun resizing(json: JSONObject, shape: JSONArray) =
        Resizing(
            squash = json.getString("mode") == "squash",
            shorterSide = json.getJSONArray("size").getInt(0),
            filter = Filter.valueOf(json.getString("filter").uppercase()),
            height = shape.getInt(0),
            width = shape.getInt(1),
        )

    private fun refusal(backend: Backend, accelerator: Accelerator, format: String): String {
        val artifact: ArtifactFolder =
            writeArtifact(File(app.filesDir, format), artifactFiles(format))
        val error =
            assertThrows(EngineException::class.java) {
                Choice(backend, accelerator).open(artifact)
            }
        assertEquals("one line", 1, error.message!!.lines().size)
        return error.message!!
    }

    @Test
    fun `what a runtime throws, and a native library that is missing, is one line`() {
        assertEquals(
            "LiteRT refuses the file on GPU: LiteRT is a stub in this build",
            refusal(LitertBackend(), Accelerator.GPU, "tflite"),
        )
        assertTrue(
            refusal(TfliteBackend(), Accelerator.CPU, "tflite")
                .startsWith("TFLite does not load on this device: ")
        )
        assertTrue(
            refusal(ExecutorchBackend(), Accelerator.CPU, "executorch")
                .startsWith("ExecuTorch refuses the file: ")
        )
    }

    @Test
    fun `each format has its runtimes, the best first`() {
        assertEquals(
            listOf("LiteRT CPU", "LiteRT GPU", "TFLite CPU"),
            allBackends().choices("tflite").map { it.title },
        )
        assertEquals(listOf("ExecuTorch CPU"), allBackends().choices("executorch").map { it.title })
        assertEquals(emptyList<String>(), allBackends().choices("coreml").map { it.title })
    }

    @Test
    fun `the frame on the screen is what the crop keeps`() {
        val crop = Resizing(false, 288, Filter.BICUBIC, 256, 256)
        assertEquals(427 * 256f / 288, seenSize(crop, 640f, 427f).first, 1e-3f)
        assertEquals(427 * 256f / 288, seenSize(crop, 427f, 640f).second, 1e-3f)
        assertEquals(640f to 427f, seenSize(crop.copy(squash = true), 640f, 427f))
        val wide = seenSize(Resizing(false, 40, Filter.BILINEAR, 40, 80), 50f, 41f)
        assertEquals(
            "a crop that is larger than the resized picture is as wide as the picture",
            50f,
            wide.first,
            1e-3f,
        )
        assertEquals(25f, wide.second, 1e-3f)
    }

    @Test
    fun `frames are turned against the screen, of a front camera with it`() {
        assertEquals(
            listOf(90, 0, 270, 180),
            listOf(0, 90, 180, 270).map { uprightDegrees(90, it, false) },
        )
        assertEquals(
            listOf(270, 0, 90, 180),
            listOf(0, 90, 180, 270).map { uprightDegrees(270, it, true) },
        )
        assertEquals(
            Size(640, 480),
            chooseSize(listOf(Size(4000, 3000), Size(1280, 720), Size(640, 480), Size(320, 240))),
        )
        assertNull(chooseSize(emptyList()))
    }

    @Test
    fun `a device without a camera, or with one that gives nothing to read, says so`() {
        assertEquals("This device has no camera.", cameraProblem())
        val manager = app.getSystemService(Context.CAMERA_SERVICE) as CameraManager
        val facts = org.robolectric.shadows.ShadowCameraCharacteristics.newCameraCharacteristics()
        shadowOf(facts)
            .set(CameraCharacteristics.LENS_FACING, CameraCharacteristics.LENS_FACING_BACK)
        shadowOf(manager).addCamera("0", facts)
        assertEquals("The camera gives no pictures that this app can read.", cameraProblem())
    }

    @Test
    fun `a camera that was left tells nothing any more`() {
        val told = ArrayList<String>()
        val feed = CameraFeed(app, { 0 }, {}) { told += it }
        shadowOf(feed.thread.looper).idle()
        feed.close()
        idle()
        assertEquals(emptyList<String>(), told)
    }

    @Test
    fun `a method that ExecuTorch does not load is refused, whichever way it says so`() {
        requireLoaded(0)
        requireLoaded(Unit)
        val error = assertThrows(EngineException::class.java) { requireLoaded(18) }
        assertEquals("ExecuTorch refuses the file: error 18", error.message)
    }

    private fun cameraProblem(): String? {
        var problem: String? = null
        val feed = CameraFeed(app, { 0 }, {}) { problem = it }
        shadowOf(feed.thread.looper).idle()
        idle()
        feed.close()
        return problem
    }

    @Test
    fun `the report's facts of the device`() {
        ShadowBuild.setModel("Pixel 8")
        ShadowBuild.setVersionRelease("15")
        ReflectionHelpers.setStaticField(Build::class.java, "SOC_MODEL", "Tensor G3")
        val facts = DeviceFacts(app)
        assertEquals(
            dev.mobilevit.core.Device("Pixel 8", "Android 15", "Tensor G3"),
            facts.device(),
        )
        ReflectionHelpers.setStaticField(Build::class.java, "SOC_MODEL", Build.UNKNOWN)
        assertNull(facts.device().processor)
        val power = shadowOf(app.getSystemService(PowerManager::class.java))
        val states =
            (0..6).map {
                power.setCurrentThermalStatus(it)
                facts.thermalState()
            }
        assertEquals(
            listOf("nominal", "fair", "fair", "serious", "critical", "critical", "critical"),
            states,
        )
        assertEquals(
            123L * 1024,
            peakMemoryBytes("Name:\tapp\nVmPeak:\t  999 kB\nVmHWM:\t     123 kB\n"),
        )
        assertNull(peakMemoryBytes("Name:\tapp\n"))
    }
}
