package dev.mobilevit.demo

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.util.Size
import dev.mobilevit.core.Plane
import kotlin.math.abs

/**
 * One frame as the sensor has it, to be turned clockwise by [degrees] to stand upright; only until
 * the callback returns.
 */
class Frame(
    val width: Int,
    val height: Int,
    val degrees: Int,
    val y: Plane,
    val u: Plane,
    val v: Plane,
)

/**
 * Frames of the back camera, or of any other where there is none, about 640 x 480. [onFrame] is
 * called on a thread of the camera's, as is [displayDegrees], by which the screen is turned;
 * [onProblem] on the main thread, with one line, and never once this is closed. Needs the
 * permission CAMERA. Made and closed on the main thread.
 */
class CameraFeed(
    context: Context,
    private val displayDegrees: () -> Int,
    private val onFrame: (Frame) -> Unit,
    private val onProblem: (String) -> Unit,
) : AutoCloseable {
    private val manager = context.getSystemService(CameraManager::class.java)
    private val main = Handler(context.mainLooper)
    internal val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var isStopped = false // the main thread's

    // Of the camera's thread.
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null
    private var isClosed = false

    init {
        handler.post { tell { open() } }
    }

    @SuppressLint("MissingPermission")
    private fun open() {
        val id = chooseCamera() ?: return problem("This device has no camera.")
        val facts = manager.getCameraCharacteristics(id)
        val size =
            facts
                .get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)
                ?.getOutputSizes(ImageFormat.YUV_420_888)
                ?.let { chooseSize(it.toList()) }
                ?: return problem("The camera gives no pictures that this app can read.")
        val sensor = facts.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0
        val isFront =
            facts.get(CameraCharacteristics.LENS_FACING) == CameraCharacteristics.LENS_FACING_FRONT
        reader =
            ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2).apply {
                setOnImageAvailableListener(
                    {
                        it.acquireLatestImage()?.use { image ->
                            // Asked for each frame: a turn by 180 degrees starts no new activity.
                            if (!isClosed)
                                onFrame(
                                    frame(image, uprightDegrees(sensor, displayDegrees(), isFront))
                                )
                        }
                    },
                    handler,
                )
            }
        manager.openCamera(id, callback, handler)
    }

    private fun chooseCamera(): String? {
        val ids = manager.cameraIdList
        return ids.firstOrNull { facing(it) == CameraCharacteristics.LENS_FACING_BACK }
            ?: ids.firstOrNull()
    }

    private fun facing(id: String): Int? =
        try {
            manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)
        } catch (_: CameraAccessException) {
            null // The others may be there.
        }

    private val callback =
        object : CameraDevice.StateCallback() {
            override fun onOpened(camera: CameraDevice) {
                device = camera
                if (isClosed) camera.close() else tell { startSession(camera) }
            }

            override fun onDisconnected(camera: CameraDevice) {
                camera.close()
                problem("Another app has taken the camera.")
            }

            override fun onError(camera: CameraDevice, error: Int) {
                camera.close()
                problem("The camera fails (error $error).")
            }
        }

    // The successor needs Android 9.
    @Suppress("DEPRECATION")
    private fun startSession(camera: CameraDevice) {
        val surface = reader!!.surface
        camera.createCaptureSession(
            listOf(surface),
            object : CameraCaptureSession.StateCallback() {
                override fun onConfigured(session: CameraCaptureSession) {
                    if (!isClosed)
                        tell {
                            // The template focuses continuously where the camera can.
                            val request =
                                camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                            request.addTarget(surface)
                            session.setRepeatingRequest(request.build(), null, handler)
                        }
                }

                override fun onConfigureFailed(session: CameraCaptureSession) =
                    problem("The camera refuses this app's picture size.")
            },
            handler,
        )
    }

    /** Tells what the camera's service throws: it may go at any time. */
    private fun tell(work: () -> Unit) =
        try {
            work()
        } catch (error: CameraAccessException) {
            problem("The camera cannot be used: ${error.message}")
        } catch (_: SecurityException) {
            problem("This app may not use the camera.")
        } catch (error: RuntimeException) { // Of a camera that has gone, or of a vendor's own kind.
            problem("The camera cannot be used: ${error.message}")
        }

    private fun problem(message: String) {
        main.post { if (!isStopped) onProblem(message) }
    }

    override fun close() {
        isStopped = true
        handler.post {
            isClosed = true
            device?.close()
            reader?.close()
            thread.quitSafely()
        }
    }
}

private fun frame(image: Image, degrees: Int): Frame {
    val (y, u, v) = image.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }
    return Frame(image.width, image.height, degrees, y, u, v)
}

/**
 * How far a frame is turned clockwise: the sensor is mounted by [sensor], and the screen is turned
 * by [display].
 */
internal fun uprightDegrees(sensor: Int, display: Int, isFront: Boolean): Int =
    if (isFront) (sensor + display) % 360 else (sensor - display + 360) % 360

/** The size nearest to 640 x 480 by its pixels. */
internal fun chooseSize(sizes: List<Size>): Size? = sizes.minByOrNull {
    abs(it.width * it.height - 640 * 480)
}
