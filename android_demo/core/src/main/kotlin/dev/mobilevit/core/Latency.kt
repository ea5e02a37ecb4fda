package dev.mobilevit.core

/**
 * Times in milliseconds, in the order of measuring, to a tenth of a microsecond: 1 to 10,000 of
 * them.
 */
class Samples(measured: List<Double>) {
    val milliseconds: List<Double> = measured.map { Math.round(it * 10_000) / 10_000.0 }
    private val sorted = milliseconds.sorted()

    init {
        require(
            measured.size in 1..10_000 &&
                sorted.first() >= 0 &&
                measured.none { it.isNaN() || it.isInfinite() }
        ) {
            "1 to 10,000 times are expected, finite and not negative"
        }
    }

    val p50: Double
        get() = percentile(50)

    val p90: Double
        get() = percentile(90)

    /** The nearest rank: the least time that this share of all times does not exceed. */
    private fun percentile(percent: Int): Double = sorted[(percent * sorted.size + 99) / 100 - 1]
}

/**
 * How long a file takes: [inference] with the reading back, [withPreprocessing] from an upright
 * picture to scores. Of a file of several input sizes these are the times of the first entry, and
 * [entries] those of all, by name and in order.
 */
class Latency(
    val warmUp: Int,
    val inference: Samples,
    val withPreprocessing: Samples?,
    val entries: Map<String, Latency> = emptyMap(),
)
