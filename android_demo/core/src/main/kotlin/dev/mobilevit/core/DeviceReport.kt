package dev.mobilevit.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64

data class App(val name: String, val version: String)

data class Device(val model: String, val system: String, val processor: String?)

/** The raw answer to one reference case, by output. */
class CaseOutput(val name: String, val outputs: Map<String, FloatArray>)

/** One artifact on one accelerator: all cases in order, or [error] and none. */
data class DeviceRun(
    val runtime: String,
    val runtimeVersion: String?,
    val accelerator: Accelerator,
    val precision: String?,
    val fullyAccelerated: Boolean?,
    val cases: List<CaseOutput>,
    val error: String?,
    val latency: Latency? = null,
    val peakMemoryBytes: Long? = null,
    /** "nominal", "fair", "serious" or "critical". */
    val thermalState: String? = null,
) {
    init {
        require(runtime in setOf("litert", "tflite", "executorch")) {
            "runtime $runtime is not one of a report"
        }
        require(precision in setOf(null, "fp32", "fp16")) {
            "precision $precision is not one of a report"
        }
        require(thermalState in setOf(null, "nominal", "fair", "serious", "critical")) {
            "thermal state $thermalState"
        }
        require((error == null) == cases.isNotEmpty()) { "a run has all cases, or an error" }
    }
}

/** A device report, schema 1: what `mobilevit verify --device-report` judges. */
class DeviceReport(
    val app: App,
    val device: Device,
    val artifact: ArtifactFolder,
    val reference: Reference,
    /** UTC, as "2026-11-29T12:00:00Z". */
    val created: String,
    val runs: List<DeviceRun>,
) {
    init {
        val names = reference.cases.map { it.name }
        for (run in runs) require(run.error != null || run.cases.map { it.name } == names) {
            "a run has other cases"
        }
        require(runs.size in 1..32) { "a report has 1 to 32 runs, not ${runs.size}" }
        val kinds = runs.map { Triple(it.runtime, it.accelerator, it.precision) }
        require(kinds.toSet().size == runs.size) { "a run is there twice: $kinds" }
        require(UTC.matches(created)) {
            "created is $created, which is not as 2026-11-29T12:00:00Z"
        }
    }

    /** Such as "mobilevit_xxs-tflite-fp32.device-report.json". */
    val fileName: String
        get() = "${artifact.name}.device-report.json"

    /**
     * The JSON document, UTF-8, which ends with the SHA-256 of all that stands before it. Throws
     * IllegalStateException where it is larger than the SDK reads.
     */
    fun toBytes(): ByteArray {
        val head = buildString {
            val members = writeJson(document())
            append(members, 0, members.length - 1).append(",\"digest\":\"")
        }
            .toByteArray()
        val digest = newSha256().apply { update(head) }.hex()
        check(head.size + 66 <= MAX_BYTES) { "the report has more than ${MAX_BYTES shr 20} MiB" }
        return head + "$digest\"}".toByteArray()
    }

    private fun document(): Map<String, Any?> =
        linkedMapOf(
            "schema" to 1,
            "app" to linkedMapOf("name" to text(app.name), "version" to text(app.version)),
            "device" to
                linkedMapOf(
                    "model" to text(device.model),
                    "system" to text(device.system),
                    "processor" to device.processor?.let(::text),
                ),
            "artifact" to
                linkedMapOf(
                    "name" to text(artifact.name),
                    "file" to artifact.manifest.file,
                    "sha256" to artifact.manifest.sha256,
                    "reference_sha256" to reference.sha256,
                ),
            "created" to created,
            "runs" to runs.map(::run),
        )

    private fun run(run: DeviceRun): Map<String, Any?> =
        linkedMapOf(
            "runtime" to run.runtime,
            "runtime_version" to run.runtimeVersion?.let(::text),
            "accelerator" to run.accelerator.word,
            "precision" to run.precision,
            "fully_accelerated" to run.fullyAccelerated,
            "cases" to
                run.cases.map {
                    linkedMapOf(
                        "name" to it.name,
                        "outputs" to it.outputs.mapValues { (_, values) -> base64(values) },
                    )
                },
            "error" to run.error?.let { oneLine(it, 2000) },
            "latency" to
                run.latency?.let { linkedMapOf<String, Any?>("warm_up" to it.warmUp) + latency(it) },
            "peak_memory_bytes" to run.peakMemoryBytes,
            "thermal_state" to run.thermalState,
        )

    private fun latency(latency: Latency): Map<String, Any?> {
        val times =
            linkedMapOf<String, Any?>(
                "inference_ms" to samples(latency.inference),
                "with_preprocessing_ms" to latency.withPreprocessing?.let(::samples),
            )
        if (latency.entries.isEmpty()) return times
        val entries = latency.entries.map { (name, own) -> mapOf("name" to name) + latency(own) }
        return times + ("entries" to entries)
    }

    private fun samples(samples: Samples): Map<String, Any?> =
        linkedMapOf("samples" to samples.milliseconds, "p50" to samples.p50, "p90" to samples.p90)

    /** One line of 1 to 200 characters. */
    private fun text(text: String): String = oneLine(text, 200).ifEmpty { "unknown" }

    private fun base64(scores: FloatArray): String {
        val bytes = ByteBuffer.allocate(4 * scores.size).order(ByteOrder.LITTLE_ENDIAN)
        bytes.asFloatBuffer().put(scores)
        return Base64.getEncoder().encodeToString(bytes.array())
    }

    private companion object {
        const val MAX_BYTES = 16 shl 20
        val UTC = Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
    }
}
