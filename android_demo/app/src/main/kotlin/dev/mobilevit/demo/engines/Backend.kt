package dev.mobilevit.demo.engines

import dev.mobilevit.core.Accelerator
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Engine
import dev.mobilevit.core.EngineException

/** A runtime that this app can have: which files it takes, and where it computes. */
interface Backend {
    /** As device reports have it: "litert", "tflite" or "executorch". */
    val runtime: String

    /** For people. */
    val title: String

    /** Of the manifests whose files it runs: "tflite" or "executorch". */
    val format: String

    val accelerators: List<Accelerator>

    /**
     * Why [accelerator] cannot be had on this device or in this build, whatever the file; null
     * where it can.
     */
    fun missing(accelerator: Accelerator): String?

    /**
     * Loads a file onto one accelerator alone. Throws [EngineException] where that is missing or
     * refuses the file.
     */
    fun open(artifact: ArtifactFolder, accelerator: Accelerator): Engine
}

/** A runtime on one of its accelerators: what the switch offers. */
data class Choice(val backend: Backend, val accelerator: Accelerator) {
    val title: String
        get() = "${backend.title} ${accelerator.word.uppercase()}"

    fun missing(): String? = backend.missing(accelerator)

    fun open(artifact: ArtifactFolder): Engine {
        missing()?.let { throw EngineException(it) }
        return backend.open(artifact, accelerator)
    }
}

/** All runtimes, best first. */
fun allBackends(): List<Backend> = listOf(LitertBackend(), TfliteBackend(), ExecutorchBackend())

/** What runs files of [format], on each accelerator. */
fun List<Backend>.choices(format: String): List<Choice> = filter {
    it.format == format
}.flatMap { backend -> backend.accelerators.map { Choice(backend, it) } }

/**
 * "X is not in this build" where a runtime's classes are absent: a build may leave out each of
 * them.
 */
internal fun absent(title: String, className: String): String? =
    try {
        Class.forName(className, false, Backend::class.java.classLoader)
        null
    } catch (_: ClassNotFoundException) {
        "$title is not in this build of the app"
    }

/**
 * Runs [work] of a runtime. What it throws, and a native library that is missing, becomes an
 * [EngineException] of one line.
 */
internal inline fun <T> runtimeCall(title: String, what: String, work: () -> T): T =
    try {
        work()
    } catch (error: EngineException) {
        throw error
    } catch (error: Exception) {
        throw EngineException("$title $what: ${error.line()}", error)
    } catch (error: LinkageError) {
        throw EngineException("$title does not load on this device: ${error.line()}", error)
    } catch (error: OutOfMemoryError) {
        throw EngineException("$title $what: not enough memory", error)
    }

@PublishedApi
internal fun Throwable.line(): String =
    (message ?: javaClass.simpleName)
        .lineSequence()
        .map { it.trim() }
        .firstOrNull { it.isNotEmpty() } ?: javaClass.simpleName

/** Throws where a file's answer or input has not the size that the manifest states. */
internal fun requireSize(title: String, what: String, expected: Int, found: Int) {
    if (expected != found)
        throw EngineException(
            "$title: the file's $what holds $found values, the manifest says $expected"
        )
}
