package dev.mobilevit.demo

import android.graphics.Bitmap
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Classification
import dev.mobilevit.core.Classifier
import dev.mobilevit.core.EngineException
import dev.mobilevit.core.LiveClassifier
import dev.mobilevit.core.Picture
import dev.mobilevit.core.Samples
import dev.mobilevit.demo.engines.Backend
import dev.mobilevit.demo.engines.Choice
import dev.mobilevit.demo.engines.choices
import java.util.concurrent.Executor

private const val WINDOW = 100 // of the newest times, of which the screen shows p50 and p90
private const val WARM_UP = 3 // a GPU compiles its shaders in the first run
private const val PHOTO_RUNS =
    20 // a photo has no further frames, so its times are of the same picture

/** What the main screen shows. */
data class ClassifyState(
    val artifact: ArtifactFolder? = null,
    val choices: List<Choice> = emptyList(),
    val choice: Choice? = null,
    val opening: Boolean = false,
    /** Why nothing is classified, in one line. */
    val problem: String? = null,
    /** What is classified instead of the camera. */
    val photo: Photo? = null,
    val result: Classification? = null,
    /** Of the newest runs. */
    val inference: Samples? = null,
    val withPreprocessing: Samples? = null,
)

/** An upright photograph, as the classifier and as the screen take it. */
class Photo(val picture: Picture, val bitmap: Bitmap)

/**
 * Classifies with one file on one accelerator at a time. It outlives a turn of the screen. Called
 * on the main thread; engines are opened, run and closed on [worker], a single thread.
 */
class Classifying(
    private val backends: List<Backend>,
    private val worker: Executor,
    private val main: Executor,
) {
    val state = Observable(ClassifyState())

    /** Takes the camera's frames, from any thread; null while no engine is open. */
    @Volatile
    var live: LiveClassifier? = null
        private set

    private var classifier: Classifier? = null // the worker's
    private var opening =
        0 // what comes in late, of an engine that was closed or of a photo that was left, is
          // dropped
    private var photos = 0
    private val inference = ArrayDeque<Double>()
    private val whole = ArrayDeque<Double>()

    /** Takes another artifact; on the accelerator in use, where its format has that. */
    fun use(artifact: ArtifactFolder) {
        val all = backends.choices(artifact.manifest.format)
        val (usable, missing) = all.partition { it.missing() == null }
        val choices = usable + missing
        state.value = state.value.copy(artifact = artifact, choices = choices)
        choose(usable.find { it == state.value.choice } ?: choices.firstOrNull())
    }

    /** Opens the artifact on [choice], anew where it is open already. */
    fun choose(choice: Choice?) {
        val artifact = state.value.artifact ?: return
        close()
        if (choice == null) {
            fail("No runtime of this app takes files of the format ${artifact.manifest.format}.")
            return
        }
        state.value = state.value.copy(choice = choice, opening = true, problem = null)
        val current = opening
        worker.execute {
            try {
                val opened = open(artifact, choice)
                classifier = opened
                main.execute { if (opening == current) opened(opened) }
            } catch (error: Exception) {
                main.execute { if (opening == current) fail(reason(error)) }
            }
        }
    }

    private fun open(artifact: ArtifactFolder, choice: Choice): Classifier {
        val engine = choice.open(artifact)
        try {
            val opened = Classifier(artifact, engine)
            for (entry in artifact.manifest.entries.indices) {
                repeat(WARM_UP) { opened.classify(Picture(64, 64), entry) }
            }
            return opened
        } catch (error: Exception) {
            engine.close()
            throw error
        }
    }

    private fun opened(opened: Classifier) {
        val current = opening
        live =
            LiveClassifier(
                opened,
                worker,
                onResult = {
                    main.execute { if (opening == current && state.value.photo == null) show(it) }
                },
                onError = { main.execute { if (opening == current) fail(reason(it)) } },
            )
        state.value = state.value.copy(opening = false)
        state.value.photo?.let { classify(it) }
    }

    /** Opens again what [close] closed, when the screen comes back. */
    fun resume() {
        if (live == null && !state.value.opening) choose(state.value.choice)
    }

    /** Closes the engine; nothing of it is shown any more. */
    fun close() {
        opening++
        photos++
        live?.close()
        live = null
        state.value = withoutResult().copy(opening = false)
        worker.execute {
            classifier?.engine?.close()
            classifier = null
        }
    }

    /** Shows [photo] instead of the camera, or with null the camera again. */
    fun photo(photo: Photo?) {
        photos++
        state.value = withoutResult().copy(photo = photo)
        if (photo != null && live != null) classify(photo)
    }

    private fun classify(photo: Photo, run: Int = 1) {
        val current = photos
        worker.execute {
            val opened = classifier ?: return@execute
            try {
                val result = opened.classify(photo.picture)
                main.execute {
                    if (photos != current) return@execute
                    show(result)
                    if (run < PHOTO_RUNS) classify(photo, run + 1)
                }
            } catch (error: EngineException) {
                main.execute { if (photos == current) fail(reason(error)) }
            }
        }
    }

    /** The state without what was measured so far. */
    private fun withoutResult(): ClassifyState {
        inference.clear()
        whole.clear()
        return state.value.copy(result = null, inference = null, withPreprocessing = null)
    }

    private fun show(result: Classification) {
        inference.push(result.inferenceMs)
        whole.push(result.inferenceMs + result.preprocessingMs)
        state.value =
            state.value.copy(
                result = result,
                inference = Samples(inference.toList()),
                withPreprocessing = Samples(whole.toList()),
            )
    }

    /** Shows why something that was asked for is not done; what was classified stays. */
    fun refuse(reason: String) {
        state.value = state.value.copy(problem = reason)
    }

    private fun fail(message: String) {
        state.value = state.value.copy(opening = false, problem = message, result = null)
    }
}

private fun ArrayDeque<Double>.push(value: Double) {
    if (size == WINDOW) removeFirst()
    addLast(value)
}

private fun reason(error: Exception): String = error.message ?: error.javaClass.simpleName
