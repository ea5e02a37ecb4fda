package dev.mobilevit.core

import java.util.Locale
import java.util.concurrent.CancellationException
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow

/**
 * What the SDK's gate would say, with its default thresholds: a preview, since `mobilevit verify`
 * judges the report.
 */
data class Verdict(
    val passed: Boolean,
    /** How many cases count. */
    val cases: Int,
    /** In dB, of the worst case and in the median. */
    val worstSqnr: Double,
    val medianSqnr: Double,
    val worstCase: String,
    val maxAbsDiff: Double,
    /** The share of [cases] with the same best class, or of a detector's [objects]; null for features. */
    val top1Agreement: Double?,
    /** In dB, of each case in order, also of those that do not count. */
    val caseSqnr: List<Double>,
    /** Why it did not pass, a line each. */
    val reasons: List<String>,
    /** How many a detector finds in the reference images that count; null for other networks. */
    val objects: Int? = null,
)

/**
 * A run for the report, and its verdict; null where the runtime failed, and `run.error` says why.
 */
class Verification(val run: DeviceRun, val verdict: Verdict?)

/**
 * Runs all reference cases. [progress] is told done and total after each; [isCancelled] is asked
 * before each, and true throws CancellationException. A runtime that fails becomes a run with an
 * error, never a part of one.
 */
fun verify(
    artifact: ArtifactFolder,
    reference: Reference,
    engine: Engine,
    progress: (done: Int, total: Int) -> Unit = { _, _ -> },
    isCancelled: () -> Boolean = { false },
): Verification {
    val inputs = artifact.manifest.entries.map { it.input }
    val buffers = inputs.map { FloatArray(it.values) }
    val answers = ArrayList<FloatArray>()
    for (case in reference.cases.indices) {
        if (isCancelled()) throw CancellationException("the verification was cancelled")
        val entry = reference.cases[case].entry
        val values = buffers[entry]
        inputs[entry].fill(reference.image(case), values)
        try {
            answers += engine.run(values, entry).also { checkAnswer(it, reference.answerSize) }
        } catch (error: Exception) { // runtimes throw their own kinds
            return Verification(
                failedRun(engine, error.message ?: error.javaClass.simpleName),
                null,
            )
        }
        progress(case + 1, reference.cases.size)
    }
    val run =
        DeviceRun(
            runtime = engine.runtime,
            runtimeVersion = engine.runtimeVersion,
            accelerator = engine.accelerator,
            precision = engine.precision,
            fullyAccelerated = engine.fullyAccelerated,
            cases =
                reference.cases.zip(answers) { case, answer ->
                    val names = artifact.manifest.heads.map { it.name }
                    CaseOutput(case.name, names.zip(reference.split(answer)).toMap())
                },
            error = null,
        )
    return Verification(run, judge(artifact.manifest, reference, answers))
}

/** The run of an engine that could not be opened, for the report. */
fun failedRun(
    runtime: String,
    runtimeVersion: String?,
    accelerator: Accelerator,
    precision: String?,
    error: String,
): DeviceRun =
    DeviceRun(
        runtime,
        runtimeVersion,
        accelerator,
        precision,
        fullyAccelerated = null,
        cases = emptyList(),
        error = oneLine(error, 2000).ifEmpty { "it failed without a reason" },
    )

private fun failedRun(engine: Engine, error: String): DeviceRun =
    failedRun(engine.runtime, engine.runtimeVersion, engine.accelerator, engine.precision, error)
        .copy(fullyAccelerated = engine.fullyAccelerated)

/** The verdict of the output that decides: one that misses its threshold, and of such the noisiest. */
internal fun judge(manifest: Manifest, reference: Reference, answers: List<FloatArray>): Verdict {
    val expected = reference.cases.indices.map { reference.split(reference.answer(it)) }
    val actual = answers.map(reference::split)
    val heads = manifest.heads
    val verdicts = heads.mapIndexed { place, head ->
        judge(manifest, reference, head, expected.map { it[place] }, actual.map { it[place] })
    }
    if (heads.size == 1) return verdicts[0]
    val worst = verdicts.minWith(compareBy({ it.passed }, { it.worstSqnr }))
    val rejections = manifest.rejections.map(::rejected)
    val reasons =
        heads.zip(verdicts).flatMap { (head, verdict) ->
            (verdict.reasons - rejections.toSet()).map { "${head.name}: $it" }
        }
    return worst.copy(
        worstSqnr = verdicts.minOf { it.worstSqnr },
        top1Agreement = verdicts.mapNotNull { it.top1Agreement }.minOrNull(),
        reasons = rejections + reasons,
        objects = verdicts.firstNotNullOfOrNull { it.objects },
    )
}

private fun rejected(reason: String) = "it was rejected when it was converted: $reason"

private fun judge(
    manifest: Manifest,
    reference: Reference,
    head: Head,
    expected: List<FloatArray>,
    answers: List<FloatArray>,
): Verdict {
    val threshold = THRESHOLDS.getValue(manifest.precision)
    val everything = threshold.countsEdgeCases || reference.cases.all { it.edge }
    val counted = BooleanArray(expected.size) { everything || !reference.cases[it].edge }
    val found = compare(expected, answers, head.kind, counted, head.classes)
    val reasons = ArrayList<String>()
    if (answers.any { row -> row.any { it.isNaN() || it.isInfinite() } }) {
        reasons += "scores are not finite"
    }
    if (isConstant(answers) && !isConstant(expected)) {
        reasons += "it answers every image with the same scores"
    }
    if (head.kind == Kind.BOXES) {
        val inputs = expected.indices.map { manifest.entries[reference.cases[it].entry].input }
        val apart = { case: Int -> pixels(expected[case], answers[case], inputs[case]) }
        val worst = expected.indices.filter { counted[it] }.maxBy {
            apart(it) / allowedPixels(inputs[it], threshold)
        }
        val farthest = apart(worst)
        val allowed = allowedPixels(inputs[worst], threshold)
        if (farthest > allowed) {
            reasons +=
                "a box is off by %.3g pixels, more than %.3g".format(Locale.ROOT, farthest, allowed)
        }
    }
    manifest.rejections.mapTo(reasons, ::rejected)
    val worstCase = reference.cases[found.worstCase].name
    if (found.worstSqnr < threshold.sqnrDb) {
        reasons +=
            "SQNR ${"%.1f".format(Locale.ROOT, found.worstSqnr)} dB on $worstCase is below ${threshold.sqnrDb.toInt()} dB"
    }
    val cases = counted.count { it }
    if (found.top1 != null && found.top1 < threshold.top1Agreement) {
        val total = found.objects ?: cases
        val what = if (found.objects == null) "cases" else "objects"
        val same = Math.round(found.top1 * total)
        reasons +=
            "the same best class on $same of $total $what is below ${Math.round(100 * threshold.top1Agreement)}%"
    }
    return Verdict(
        passed = reasons.isEmpty(),
        cases = cases,
        worstSqnr = found.worstSqnr,
        medianSqnr = found.medianSqnr,
        worstCase = worstCase,
        maxAbsDiff = found.maxAbsDiff,
        top1Agreement = found.top1,
        caseSqnr = found.caseSqnr.toList(),
        reasons = reasons,
        objects = found.objects,
    )
}

/**
 * How far off a box may be: what the SQNR allows for the longer side, of float files a pixel of 640
 * at most where float16 has its own SQNR, and a little anywhere.
 */
private fun allowedPixels(input: AppInput, threshold: Threshold): Double {
    var share = 10.0.pow(-threshold.sqnrDb / 20)
    if (threshold.countsEdgeCases) {
        val half = THRESHOLDS.getValue("fp16").sqnrDb
        share = min(share, 10.0.pow((half - threshold.sqnrDb) / 20) / 640)
    }
    return max(0.05, share * max(input.height, input.width))
}

/** The largest difference of a box's four numbers, in pixels of the input. */
private fun pixels(expected: FloatArray, actual: FloatArray, input: AppInput): Double =
    expected.indices.maxOf {
        val apart = abs(actual[it].toDouble() - expected[it])
        if (apart.isFinite()) apart * (if (it % 2 == 0) input.width else input.height)
        else Double.MAX_VALUE
    }

private fun isConstant(answers: List<FloatArray>): Boolean = answers.all { row ->
    row.indices.all { row[it] == answers[0][it] }
}
