package dev.mobilevit.demo

import dev.mobilevit.core.App
import dev.mobilevit.core.ArtifactException
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Classifier
import dev.mobilevit.core.DeviceReport
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EngineException
import dev.mobilevit.core.Picture
import dev.mobilevit.core.Reference
import dev.mobilevit.core.Verification
import dev.mobilevit.core.failedRun
import dev.mobilevit.core.verify
import dev.mobilevit.demo.engines.Backend
import dev.mobilevit.demo.engines.Choice
import dev.mobilevit.demo.engines.choices
import java.io.File
import java.io.IOException
import java.time.Instant
import java.time.temporal.ChronoUnit
import java.util.concurrent.CancellationException
import java.util.concurrent.Executor

private const val WARM_UP = 5
private const val SAMPLES = 50
private const val ERROR_SUFFIX = ".error.txt"

/** One accelerator's verdict, by its title. */
class Row(val title: String, val verification: Verification)

/** What the verdict screen shows. */
sealed interface VerifyState {
    object Idle : VerifyState

    /** Accelerator [title], of [count] the one at [index], from 0, has done so much. */
    data class Running(
        val name: String,
        val title: String,
        val index: Int,
        val count: Int,
        val done: Int,
        val total: Int,
        val rows: List<Row>,
    ) : VerifyState

    data class Done(val name: String, val rows: List<Row>, val report: File) : VerifyState

    data class Stopped(val name: String, val reason: String) : VerifyState
}

/**
 * Runs all reference cases on all accelerators of this build and writes the device report. It goes
 * on while the screen turns or is left. Called on the main thread; engines belong to [worker], a
 * single thread.
 */
class Verifying(
    private val backends: List<Backend>,
    private val reports: () -> File,
    private val facts: DeviceFacts,
    private val app: App,
    private val worker: Executor,
    private val main: Executor,
) {
    val state = Observable<VerifyState>(VerifyState.Idle)

    @Volatile private var isCancelled = false

    val isRunning: Boolean
        get() = state.value is VerifyState.Running

    /**
     * Opens the artifact anew: its files may have been replaced since. Does nothing while another
     * is running.
     */
    fun start(artifact: ArtifactFolder) =
        start(artifact.name) { ArtifactFolder.open(artifact.folder) }

    /** [open], on the worker, gives the artifact called [name] or throws [ArtifactException]. */
    fun start(name: String, open: () -> ArtifactFolder) {
        if (isRunning) return
        isCancelled = false
        state.value = VerifyState.Running(name, "", 0, 1, 0, 0, emptyList())
        worker.execute {
            val end =
                try {
                    run(open())
                } catch (_: CancellationException) {
                    stopped(name, "Cancelled. No report was written.")
                } catch (error: ArtifactException) {
                    stopped(name, error.message.orEmpty())
                } catch (error: IOException) {
                    stopped(name, "The report cannot be written: ${error.message}")
                } catch (error: RuntimeException) { // What waits beyond a cable is told, too.
                    stopped(name, "The verification failed: ${error.message ?: error}")
                } catch (_: OutOfMemoryError) {
                    stopped(name, "There is not enough memory for this artifact's reference cases")
                }
            main.execute { state.value = end }
        }
    }

    fun cancel() {
        isCancelled = true
    }

    private fun run(artifact: ArtifactFolder): VerifyState {
        val reference = artifact.reference()
        val all = backends.choices(artifact.manifest.format)
        val choices = all.filter { it.missing() == null }.ifEmpty { all }
        val rows = ArrayList<Row>()
        for ((index, choice) in choices.withIndex()) {
            val finished = rows.toList()
            val progress = { done: Int, total: Int ->
                val now =
                    VerifyState.Running(
                        artifact.name,
                        choice.title,
                        index,
                        choices.size,
                        done,
                        total,
                        finished,
                    )
                main.execute { if (isRunning) state.value = now }
            }
            rows += Row(choice.title, run(artifact, reference, choice, progress))
        }
        if (rows.isEmpty())
            throw ArtifactException(
                "no runtime of this app takes files of the format ${artifact.manifest.format}"
            )
        val report =
            DeviceReport(
                app,
                facts.device(),
                artifact,
                reference,
                Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(),
                rows.map { it.verification.run },
            )
        val file = File(reports(), report.fileName)
        writeWhole(file, report.toBytes())
        return VerifyState.Done(artifact.name, rows, file)
    }

    private fun run(
        artifact: ArtifactFolder,
        reference: Reference,
        choice: Choice,
        progress: (Int, Int) -> Unit,
    ): Verification {
        progress(0, reference.cases.size)
        val engine =
            try {
                choice.open(artifact)
            } catch (error: EngineException) {
                val accelerator = choice.accelerator
                return Verification(
                    failedRun(
                        choice.backend.runtime,
                        null,
                        accelerator,
                        null,
                        error.message.orEmpty(),
                    ),
                    null,
                )
            }
        return engine.use {
            measured(artifact, verify(artifact, reference, it, progress) { isCancelled }, it)
        }
    }

    /** Adds times, memory and heat to a run that has succeeded. */
    private fun measured(
        artifact: ArtifactFolder,
        verification: Verification,
        engine: Engine,
    ): Verification {
        if (verification.verdict == null) return verification
        val latency =
            try {
                if (artifact.manifest.output == "logits") {
                    Classifier(artifact, engine).measure(Picture(640, 480), WARM_UP, SAMPLES) {
                        isCancelled
                    } // of a camera's size
                } else {
                    null
                }
            } catch (_: EngineException) {
                null
            }
        val run =
            verification.run.copy(
                latency = latency,
                peakMemoryBytes = facts.peakMemoryBytes(),
                thermalState = facts.thermalState(),
            )
        return Verification(run, verification.verdict)
    }

    /** What waits for the report, beyond a cable, is told why there is none. */
    private fun stopped(name: String, reason: String): VerifyState {
        try {
            if (isName(name))
                writeWhole(File(reports(), name + ERROR_SUFFIX), "$reason\n".toByteArray())
        } catch (_: IOException) {
            // The screen says it.
        }
        return VerifyState.Stopped(name, reason)
    }
}

/** When [file] is there, it is whole. */
internal fun writeWhole(file: File, content: ByteArray) {
    file.parentFile?.mkdirs()
    val part = File(file.path + ".part")
    part.writeBytes(content)
    if (!part.renameTo(file)) throw IOException("cannot rename ${part.name}")
}
