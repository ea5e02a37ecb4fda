package dev.mobilevit.core

/** What the worst case must reach, and the share of cases with the same best class. */
class Threshold(val sqnrDb: Double, val top1Agreement: Double, val countsEdgeCases: Boolean)

/** The SDK's own defaults by precision, for previews; a test of the SDK compares them. */
val THRESHOLDS: Map<String, Threshold> =
    linkedMapOf(
        "fp32" to Threshold(90.0, 1.0, countsEdgeCases = true),
        "fp16" to Threshold(40.0, 0.99, countsEdgeCases = true),
        "int8" to Threshold(3.0, 0.6, countsEdgeCases = false),
        "int8-dynamic" to Threshold(6.0, 0.75, countsEdgeCases = false),
        "int8-weight" to Threshold(6.0, 0.75, countsEdgeCases = false),
        "int4-weight" to Threshold(0.0, 0.5, countsEdgeCases = false),
    )
