package dev.mobilevit.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.Surface
import android.view.View
import android.widget.Button
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView
import dev.mobilevit.core.LEAST_PROBABILITY
import dev.mobilevit.core.Orientation
import dev.mobilevit.core.Picture
import dev.mobilevit.core.yuvToRgb
import dev.mobilevit.demo.engines.Choice
import dev.mobilevit.demo.views.FactsView
import dev.mobilevit.demo.views.FrameView
import dev.mobilevit.demo.views.ScoresView
import java.io.IOException
import java.util.Locale
import kotlin.math.roundToInt

private const val PICK_PHOTO = 1
private const val PICK_ARTIFACT = 2
private const val ASK_CAMERA = 3

/** Classifies the live camera, or a photo, or draws boxes over what a detector finds there. */
class MainActivity : Activity() {
    private val app
        get() = application as DemoApplication

    private val classifying
        get() = app.classifying

    private val frame by lazy { findViewById<FrameView>(R.id.frame) }
    private var observer: AutoCloseable? = null
    internal var feed: CameraFeed? = null
        private set

    private var cameraProblem: String? = null
    private var hasFrame = false
    private var isStarted = false
    private var isRefused = false // the camera, for good: the system does not ask any more

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        findViewById<View>(R.id.artifact).setOnClickListener { pickArtifact() }
        findViewById<View>(R.id.allow).setOnClickListener { askForCamera() }
        findViewById<View>(R.id.source).setOnClickListener {
            if (classifying.state.value.photo == null) pickPhoto() else showCamera()
        }
        findViewById<View>(R.id.verify).setOnClickListener { verify() }
        // What started this once does not do so again from the list of recent apps.
        val isRecent = intent.flags and Intent.FLAG_ACTIVITY_LAUNCHED_FROM_HISTORY != 0
        if (saved == null && !isRecent) receive(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        setIntent(intent)
        receive(intent)
    }

    override fun onStart() {
        super.onStart()
        isStarted = true
        observer = classifying.state.observe(::show)
        if (classifying.state.value.artifact == null) useFirstArtifact() else classifying.resume()
    }

    override fun onResume() {
        super.onResume()
        startCamera() // Also where another app had taken it.
    }

    override fun onStop() {
        isStarted = false
        observer?.close()
        stopCamera()
        if (!isChangingConfigurations) classifying.close()
        super.onStop()
    }

    /** From `adb shell am start`, or a .zip that another app shares or opens with this one. */
    private fun receive(intent: Intent) =
        when (val request = requestOf(intent)) {
            null -> Unit
            is Request.Verify -> {
                app.verifying.start(request.name) { app.library.pushed(request.name) }
                startActivity(Intent(this, VerifyActivity::class.java))
            }
            is Request.Import -> startActivity(ArtifactsActivity.importing(this, request.uri))
            is Request.Refused -> classifying.refuse(request.reason)
        }

    private fun useFirstArtifact() =
        app.inBackground({ app.library.entries() }) { entries ->
            val first = entries.firstNotNullOfOrNull { it.artifact }
            when {
                classifying.state.value.artifact != null || !isStarted -> Unit
                first != null -> classifying.use(first)
                else -> classifying.refuse(getString(R.string.no_artifacts, app.library.folder))
            }
        }

    private fun pickArtifact() =
        startActivityForResult(Intent(this, ArtifactsActivity::class.java), PICK_ARTIFACT)

    private fun pickPhoto() {
        if (!pickFile("image/*", PICK_PHOTO)) classifying.refuse(getString(R.string.no_photo_app))
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        if (request == PICK_PHOTO && result == RESULT_OK) data?.data?.let(::openPhoto)
    }

    private fun openPhoto(uri: Uri) =
        app.inBackground({ runCatching { readPhoto(contentResolver, uri) } }) { read ->
            read
                .onSuccess { classifying.photo(it) }
                .onFailure {
                    if (it is IOException) classifying.refuse(it.message.orEmpty()) else throw it
                }
        }

    private fun showCamera() {
        classifying.photo(null)
        startCamera()
    }

    private fun verify() {
        val artifact = classifying.state.value.artifact ?: return pickArtifact()
        classifying.close() // Two engines at once would take memory, which the report states.
        app.verifying.start(artifact)
        startActivity(VerifyActivity.intent(this, artifact))
    }

    // The camera.

    private fun isAllowed() =
        checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun startCamera() {
        if (feed != null || !isStarted || classifying.state.value.photo != null || !isAllowed())
            return showPicture()
        cameraProblem = null
        hasFrame = false
        feed =
            CameraFeed(this, ::displayDegrees, FrameSink()::accept) {
                stopCamera()
                cameraProblem = it
                showPicture()
            }
        showPicture()
    }

    private fun stopCamera() {
        feed?.close()
        feed = null
        hasFrame = false
    }

    override fun onRequestPermissionsResult(
        request: Int,
        permissions: Array<String>,
        results: IntArray,
    ) {
        super.onRequestPermissionsResult(request, permissions, results)
        if (request != ASK_CAMERA) return
        isRefused =
            results.isNotEmpty() &&
                !isAllowed() &&
                !shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)
        startCamera()
    }

    private fun askForCamera() =
        if (isRefused)
            startActivity(
                Intent(
                    Settings.ACTION_APPLICATION_DETAILS_SETTINGS,
                    Uri.fromParts("package", packageName, null),
                )
            )
        else requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK_CAMERA)

    @Suppress("DEPRECATION") // Context.getDisplay needs Android 11.
    private fun displayDegrees() =
        when (windowManager.defaultDisplay.rotation) {
            Surface.ROTATION_90 -> 90
            Surface.ROTATION_180 -> 180
            Surface.ROTATION_270 -> 270
            else -> 0
        }

    /**
     * Takes frames on the camera's thread: each is shown, and classified where the engine is free.
     */
    internal inner class FrameSink {
        private var picture: Picture? = null
        private var pixels = IntArray(0)
        private val bitmaps = arrayOfNulls<Bitmap>(2) // one is drawn while the other is written
        private var next = 0

        fun accept(frame: Frame) {
            val picture =
                picture?.takeIf { it.width == frame.width && it.height == frame.height }
                    ?: Picture(frame.width, frame.height).also {
                        picture = it
                        pixels = IntArray(it.width * it.height)
                        bitmaps.indices.forEach { index ->
                            bitmaps[index] =
                                Bitmap.createBitmap(it.width, it.height, Bitmap.Config.ARGB_8888)
                        }
                    }
            yuvToRgb(frame.y, frame.u, frame.v, picture)
            classifying.live?.offer(
                frame.width,
                frame.height,
                Orientation.ofRotation(frame.degrees),
            ) {
                System.arraycopy(picture.rgb, 0, it.rgb, 0, picture.rgb.size)
            }
            val bitmap = bitmaps[next]!!
            next = 1 - next
            picture.show(bitmap, pixels)
            runOnUiThread { showFrame(bitmap, frame.degrees) }
        }
    }

    private fun showFrame(bitmap: Bitmap, degrees: Int) {
        if (feed == null || classifying.state.value.photo != null) return
        frame.show(bitmap, degrees)
        if (!hasFrame) {
            hasFrame = true
            showPicture()
        }
    }

    // What the screen shows.

    private fun show(state: ClassifyState) {
        if (state.photo != null) stopCamera() // which a turn of the screen may have started
        findViewById<TextView>(R.id.artifact).text =
            state.artifact?.name ?: getString(R.string.app_name)
        showChoices(state)
        val problem = findViewById<TextView>(R.id.problem)
        problem.text =
            state.problem
                ?: when {
                    state.opening -> getString(R.string.loading, state.choice?.title)
                    state.result?.objects?.isEmpty() == true ->
                        getString(R.string.nothing_found, (100 * LEAST_PROBABILITY).roundToInt())
                    else -> null
                }
        problem.setTextColor(
            getColor(if (state.problem == null) R.color.text_quiet else R.color.bad)
        )
        problem.visibility = if (problem.text.isEmpty()) View.GONE else View.VISIBLE
        val objects = state.result?.objects
        findViewById<ScoresView>(R.id.scores).show(state.result?.shown.orEmpty(), objects != null)
        frame.objects = objects.orEmpty()
        findViewById<FactsView>(R.id.times)
            .show(
                listOfNotNull(
                    state.inference?.let {
                        getString(R.string.label_inference) to times(it.p50, it.p90)
                    },
                    state.withPreprocessing?.let {
                        getString(R.string.label_whole) to times(it.p50, it.p90)
                    },
                    state.result?.let { state.artifact?.manifest?.entries?.get(it.entry) }
                        ?.takeIf { it.name != null }
                        ?.let {
                            getString(R.string.label_entry) to
                                getString(R.string.entry, it.name, it.input.width, it.input.height)
                        },
                )
            )
        findViewById<Button>(R.id.source)
            .setText(if (state.photo == null) R.string.open_photo else R.string.open_camera)
        frame.resizing = state.artifact?.run { manifest.entries[state.result?.entry ?: 0].input.resizing }
        showPicture()
    }

    private fun times(p50: Double, p90: Double) =
        getString(
            R.string.times,
            String.format(Locale.getDefault(), "%.1f", p50),
            String.format(Locale.getDefault(), "%.1f", p90),
        )

    private fun showPicture() {
        val photo = classifying.state.value.photo
        if (photo != null) frame.show(photo.bitmap) else if (!hasFrame) frame.show(null)
        val message =
            when {
                photo != null || hasFrame -> null
                !isAllowed() -> getString(R.string.camera_refused)
                else -> cameraProblem ?: getString(R.string.camera_starts)
            }
        findViewById<View>(R.id.message_box).visibility =
            if (message == null) View.GONE else View.VISIBLE
        findViewById<TextView>(R.id.message).text = message
        val allow = findViewById<Button>(R.id.allow)
        allow.visibility = if (isAllowed()) View.GONE else View.VISIBLE
        allow.setText(if (isRefused) R.string.open_settings else R.string.allow_camera)
    }

    private fun showChoices(state: ClassifyState) {
        val group = findViewById<RadioGroup>(R.id.choices)
        if (group.tag != state.choices) {
            group.tag = state.choices
            group.removeAllViews()
            state.choices.forEach { group.addView(chip(it)) }
        }
        val checked = state.choices.indexOf(state.choice)
        for (index in 0 until group.childCount) (group.getChildAt(index) as RadioButton).isChecked =
            index == checked
    }

    private fun chip(choice: Choice): RadioButton {
        val chip = RadioButton(this, null, 0, R.style.Chip)
        chip.text = choice.title
        choice.missing()?.let {
            chip.isActivated = true
            chip.contentDescription = getString(R.string.unavailable_description, choice.title, it)
        }
        chip.setOnClickListener { classifying.choose(choice) }
        val size =
            RadioGroup.LayoutParams(
                RadioGroup.LayoutParams.WRAP_CONTENT,
                RadioGroup.LayoutParams.WRAP_CONTENT,
            )
        size.marginEnd = (8 * resources.displayMetrics.density).toInt()
        chip.layoutParams = size
        return chip
    }
}
