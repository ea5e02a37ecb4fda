package dev.mobilevit.core

data class App(val name: String, val version: String)

data class Device(val model: String, val system: String, val processor: String?)

/** The raw answer to one reference case. */
class CaseOutput(val name: String, val scores: FloatArray)

/** One artifact on one accelerator: all cases in order, or [error] and none. */
data class DeviceRun(
    val runtime: String,
    val runtimeVersion: String?,
    val accelerator: Accelerator,
    val precision: String?,
    val fullyAccelerated: Boolean?,
    /** "logits" or "features". */
    val output: String,
    val cases: List<CaseOutput>,
    val error: String?,
    val latency: Latency? = null,
    val peakMemoryBytes: Long? = null,
    /** "nominal", "fair", "serious" or "critical". */
    val thermalState: String? = null,
)

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
    /** The JSON document with its digest, UTF-8. */
    fun toBytes(): ByteArray = TODO()

    /** Such as "mobilevit_xxs-tflite-fp32.device-report.json". */
    val fileName: String get() = TODO()
}
