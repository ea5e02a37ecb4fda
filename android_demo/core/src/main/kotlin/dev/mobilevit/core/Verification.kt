package dev.mobilevit.core

/** What the SDK's gate would say, with its default thresholds: a preview, since `mobilevit verify` judges the report. */
data class Verdict(
    val passed: Boolean,
    val cases: Int,
    /** In dB, of the worst case and in the median. */
    val worstSqnr: Double,
    val medianSqnr: Double,
    val worstCase: String,
    val maxAbsDiff: Double,
    /** The share with the same best class; null for features. */
    val top1Agreement: Double?,
    /** In dB, of each case in order. */
    val caseSqnr: List<Double>,
    /** Why it did not pass, a line each. */
    val reasons: List<String>,
)

/** A run for the report, and its verdict; null where the runtime failed, and `run.error` says why. */
class Verification(val run: DeviceRun, val verdict: Verdict?)

/**
 * Runs all reference cases. [progress] is told done and total after each; [isCancelled] is asked before each, and true
 * throws CancellationException. A runtime that fails becomes a run with an error, never a part of one.
 */
fun verify(
    artifact: ArtifactFolder,
    reference: Reference,
    engine: Engine,
    progress: (done: Int, total: Int) -> Unit = { _, _ -> },
    isCancelled: () -> Boolean = { false },
): Verification = TODO()

/** The run of an engine that could not be opened, for the report. */
fun failedRun(runtime: String, runtimeVersion: String?, accelerator: Accelerator, precision: String?, error: String): DeviceRun = TODO()
