package dev.mobilevit.core

import kotlin.math.abs
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow
import kotlin.math.sqrt

/** How near answers are to the reference's, as the SDK measures it. */
internal class Agreement(
    val worstSqnr: Double,
    val medianSqnr: Double,
    val worstCase: Int,
    val maxAbsDiff: Double,
    /** The share of the cases, or of a detector's [objects], with the same best class. */
    val top1: Double?,
    val caseSqnr: DoubleArray,
    /** How many queries find one in the reference; null for all but a detector's scores. */
    val objects: Int?,
)

private const val CEILING = 200.0 // dB
private const val TIE_DB = 40.0
private const val TIE_ERRORS = 3.0

/**
 * Compares answers, [cases, numbers], in double precision. The SQNR of a case is the lower of that
 * of the numbers as they are and, for scores, that of what decides between the classes: of a
 * detector's, in each query of [classes] numbers. Cases that are not [counted] have their SQNR
 * alone.
 */
internal fun compare(
    expected: List<FloatArray>,
    actual: List<FloatArray>,
    kind: Kind,
    counted: BooleanArray,
    classes: Int,
): Agreement {
    val reference = expected.map { row -> DoubleArray(row.size) { row[it].toDouble() } }
    val noise = actual.mapIndexed { case, row ->
        DoubleArray(row.size) { row[it].toDouble() - reference[case][it] }
    }
    val sqnr = sqnr(reference, noise, kind, classes)
    val isCounted = reference.indices.filter { counted[it] }
    val ordered = isCounted.map { sqnr[it] }.sorted()
    val differences = isCounted.map { case ->
        if (noise[case].all { it.isFinite() }) noise[case].maxOf { abs(it) } else Double.MAX_VALUE
    }
    val objects =
        if (kind != Kind.QUERY_SCORES) null
        else
            isCounted.flatMap { case ->
                queries(reference[case], classes).zip(queries(noise[case], classes)).filter {
                    (row, _) ->
                    row.indices.maxBy { row[it] } != classes - 1
                }
            }
    val rows =
        when (kind) {
            Kind.SCORES -> isCounted.map { reference[it] to noise[it] }
            else -> objects.orEmpty()
        }
    return Agreement(
        worstSqnr = ordered.first(),
        medianSqnr = median(ordered),
        worstCase = isCounted.minBy { sqnr[it] },
        maxAbsDiff = differences.max(),
        top1 = if (rows.isEmpty()) null else rows.unzip().let { sameBest(it.first, it.second) },
        caseSqnr = sqnr,
        objects = objects?.size,
    )
}

private fun queries(row: DoubleArray, classes: Int): List<DoubleArray> =
    List(row.size / classes) { row.copyOfRange(it * classes, (it + 1) * classes) }

private fun sqnr(
    reference: List<DoubleArray>,
    noise: List<DoubleArray>,
    kind: Kind,
    classes: Int,
): DoubleArray {
    val whole = reference.map(::energy).toDoubleArray()
    val plain = DoubleArray(whole.size) { decibels(whole[it], energy(noise[it])) }
    if (kind == Kind.QUERY_SCORES) {
        fun decidingEnergy(row: DoubleArray) =
            queries(row, classes).sumOf { energy(deciding(it)) }
        val own = reference.map(::decidingEnergy)
        val typical = median(own.sorted())
        return DoubleArray(own.size) {
            min(plain[it], decibels(max(own[it], typical), decidingEnergy(noise[it])))
        }
    }
    if (kind != Kind.SCORES) return plain
    if (isBinary(reference)) {
        whole.average().let { mean ->
            for (case in whole.indices) whole[case] = max(whole[case], mean)
        }
    }
    val deciding = decidingEnergies(reference)
    return DoubleArray(whole.size) {
        min(
            decibels(whole[it], energy(noise[it])),
            decibels(deciding[it], energy(deciding(noise[it]))),
        )
    }
}

/**
 * The share of cases with the same best class, or with one that the reference holds for as good.
 */
private fun sameBest(reference: List<DoubleArray>, noise: List<DoubleArray>): Double {
    val classes = reference[0].size
    val isFinite = noise.map { row -> row.all { it.isFinite() } }
    val known = reference.mapIndexed { case, row ->
        if (isFinite[case]) row else DoubleArray(classes)
    }
    val errors = noise.mapIndexed { case, row ->
        if (isFinite[case]) sqrt(energy(deciding(row)) / classes) else Double.POSITIVE_INFINITY
    }
    val typical = TIE_ERRORS * median(errors.sorted())
    val deciding = decidingEnergies(known)
    val agreeing =
        known.indices.count { case ->
            val allowed = 10.0.pow(-TIE_DB / 20) * sqrt(deciding[case] / classes)
            val width =
                min(typical, allowed) *
                    if (classes == 1) 1.0 else sqrt(2.0) // of a difference of two scores
            val row = known[case]
            val answer = DoubleArray(classes) { row[it] + noise[case][it] }
            val gap =
                when {
                    classes > 1 -> row.max() - row[answer.indices.maxBy { answer[it] }]
                    (row[0] > 0) == (answer[0] > 0) -> 0.0
                    else -> abs(row[0])
                }
            isFinite[case] && (gap == 0.0 || gap <= width)
        }
    return agreeing.toDouble() / known.size
}

/** Sums of squares of what decides: at least what is typical over the cases. */
private fun decidingEnergies(reference: List<DoubleArray>): DoubleArray {
    var rows = reference.map(::deciding)
    val spread = isBinary(reference) && rows.size > 1
    if (spread) {
        val mean = DoubleArray(rows[0].size) { column -> rows.sumOf { it[column] } / rows.size }
        rows = rows.map { row -> DoubleArray(row.size) { row[it] - mean[it] } }
    }
    val own = rows.map(::energy)
    val typical = if (spread) own.average() else median(own.sorted())
    return DoubleArray(own.size) { max(own[it], typical) }
}

/** Scores without what all classes have in common; a single score as it is. */
private fun deciding(scores: DoubleArray): DoubleArray {
    if (scores.size == 1) return scores
    val mean = scores.average()
    return DoubleArray(scores.size) { scores[it] - mean }
}

private fun isBinary(reference: List<DoubleArray>): Boolean = reference[0].size <= 2

private fun energy(values: DoubleArray): Double = values.sumOf { it * it }

private fun decibels(signal: Double, noise: Double): Double =
    when {
        !noise.isFinite() -> -CEILING
        noise == 0.0 -> CEILING
        signal == 0.0 -> -CEILING
        else -> (10 * log10(signal / noise)).coerceIn(-CEILING, CEILING)
    }

private fun median(sorted: List<Double>): Double =
    sorted[(sorted.size - 1) / 2] / 2 + sorted[sorted.size / 2] / 2
