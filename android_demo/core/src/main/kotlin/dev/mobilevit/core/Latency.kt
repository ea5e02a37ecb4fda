package dev.mobilevit.core

/** Times in milliseconds, at least one and at most 10,000. */
class Samples(val milliseconds: List<Double>) {
    val p50: Double get() = TODO()
    val p90: Double get() = TODO()
}

/** How long a file takes; [withPreprocessing] from an upright picture to scores. */
class Latency(val warmUp: Int, val inference: Samples, val withPreprocessing: Samples?)
