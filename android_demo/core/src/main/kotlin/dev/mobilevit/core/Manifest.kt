package dev.mobilevit.core

import java.nio.ByteBuffer

/** The order of an input's values in memory. */
enum class Layout {
    NCHW,
    NHWC,
}

/** How a photograph becomes the picture that a file takes: see [Resizer]. */
data class Resizing(
    /**
     * Whether both sides are brought to [height] and [width]; otherwise the shorter side is, and
     * the center cropped.
     */
    val squash: Boolean,
    /** What the shorter side is brought to, in pixels; not used where the picture is squashed. */
    val shorterSide: Int,
    val filter: Filter,
    val height: Int,
    val width: Int,
)

/** What an app feeds: one image, RGB, float32, in [low, high]; mean and std are in the graph. */
data class AppInput(
    val name: String,
    val layout: Layout,
    val height: Int,
    val width: Int,
    val low: Float,
    val high: Float,
    val resizing: Resizing,
) {
    /** How many values one image has. */
    val values: Int
        get() = 3 * height * width

    /** What each byte becomes. */
    internal val scaled = FloatArray(256) { low + it / 255f * (high - low) }
}

/** What the values of an output are; a detector's are those of many queries each. */
enum class Kind {
    SCORES,
    FEATURES,
    QUERY_SCORES,
    BOXES,
}

/**
 * One output: the values of a network's own answer, or of a task that it answers beside that. A
 * detector answers [rows] queries, each with scores of [classes], of which the last is "no object"
 * and has no label, or with four numbers of a box.
 */
data class Head(
    val name: String,
    val classes: Int,
    val labels: List<String>?,
    val kind: Kind = Kind.SCORES,
    val rows: Int = 1,
) {
    val values: Int
        get() = rows * classes
}

/** What an app needs of `manifest.json`. */
data class Manifest(
    /** The phone file's name, which leaves the folder by no means. */
    val file: String,
    /** "tflite" or "executorch". */
    val format: String,
    /** Of the file, such as "fp32" or "int8": a key of [THRESHOLDS]. */
    val precision: String,
    /** That the file was made for, where that has a name, such as "xnnpack". */
    val backend: String?,
    val bytes: Long,
    val sha256: String,
    val model: String,
    /** "logits", or "features" of a network without a classifier. */
    val output: String,
    /** Of a classifier, or of a detector without "no object". */
    val classes: Int,
    val labels: List<String>?,
    /** Why the conversion judged it too bad to ship; empty where it did not. */
    val rejections: List<String>,
    /** Of the first of [entries]. */
    val input: AppInput,
    /** What the network answers beside its own classes, in the order of the file's outputs. */
    val tasks: List<Head> = emptyList(),
    /** How many boxes a detector answers with; 0 for all other networks. */
    val queries: Int = 0,
    /** One for each input size that the file has. */
    val entries: List<EntryPoint> = listOf(EntryPoint(null, input, emptyList())),
) {
    /** All outputs, in the order in which an answer holds them. */
    val heads: List<Head>
        get() =
            if (queries > 0)
                listOf(
                    Head(output, classes + 1, labels, Kind.QUERY_SCORES, queries),
                    Head(BOXES, 4, null, Kind.BOXES, queries),
                )
            else {
                val kind = if (output == "features") Kind.FEATURES else Kind.SCORES
                listOf(Head(output, classes, labels, kind)) + tasks
            }

    companion object {
        /**
         * Reads the bytes of a manifest. Throws [ArtifactException] where it is not one, or not for
         * Android.
         */
        fun read(bytes: ByteArray): Manifest {
            val manifest = parseJsonObject(ByteBuffer.wrap(bytes), "manifest.json")
            val schema = manifest.integer("schema", 0..Long.MAX_VALUE)
            if (schema !in 1..2) {
                manifest.fail(
                    "schema $schema is not known to this app, which reads 1 and 2; update the app"
                )
            }
            val format = manifest.text("format")
            val backend = manifest.textOrNull("backend")
            if (format !in FORMATS || backend !in FORMATS.getValue(format)) {
                val found = if (backend == null) format else "$format for $backend"
                manifest.fail(
                    "${oneLine(found, 60)} does not run on Android; convert to tflite or executorch"
                )
            }
            val precision = manifest.text("precision")
            if (precision !in THRESHOLDS) {
                manifest.fail(
                    "precision ${oneLine(precision, 40)} is not known to this app, which knows ${THRESHOLDS.keys}"
                )
            }
            val spec = manifest.objectAt("spec")
            val features = spec.textOrNull("features")
            val classes = spec.objectAt("config").integer("num_classes", 0L..MAX_CLASSES).toInt()
            val labels = spec.textsOrNull("labels")
            if (features != null && spec.has("scores")) {
                spec.fail("features beside class scores are not for this app; convert one of them")
            }
            if (features == null && classes == 0) spec.fail("a classifier has at least one class")
            if (labels != null && labels.size != classes) {
                spec.fail("${labels.size} labels for $classes classes")
            }
            val queries = queries(spec.objectAt("config"))
            if (queries > 0) checkDetector(manifest, spec, queries, classes)
            val input = input(manifest.objectOrNull("app_input"))
            return Manifest(
                file = fileName(manifest),
                format = format,
                precision = precision,
                backend = backend,
                bytes = manifest.integer("bytes", 1..Long.MAX_VALUE),
                sha256 =
                    manifest.text("sha256").also {
                        if (!SHA256.matches(it)) {
                            manifest.fail("sha256 must be 64 lowercase hexadecimal digits")
                        }
                    },
                model = oneLine(spec.text("model"), 100),
                output = if (features == null) "logits" else "features",
                classes = classes,
                labels = labels?.map { oneLine(it, 100) },
                rejections = rejections(manifest),
                input = input,
                tasks = tasks(spec),
                queries = queries,
                entries = readEntries(manifest, input, FIRST_ENTRY.getValue(format), ::input),
            )
        }

        private fun queries(config: JsonObject): Int =
            if (config.has("num_queries")) config.integer("num_queries", 1L..MAX_QUERIES).toInt()
            else 0

        private fun checkDetector(
            manifest: JsonObject,
            spec: JsonObject,
            queries: Int,
            classes: Int,
        ) {
            if (spec.has("tasks") || spec.has("features")) {
                spec.fail("a detector answers no tasks and returns no features")
            }
            val found =
                manifest.objects("outputs").associate {
                    it.text("name") to it.integers("shape", 1..MAX_CLASSES + 1)
                }
            val n = queries.toLong()
            for ((name, shape) in
                listOf("logits" to listOf(1, n, classes + 1L), BOXES to listOf(1, n, 4))) {
                if (found[name] != shape) {
                    val wrong = found[name]?.let { "$name of shape $it" } ?: "no $name"
                    manifest.fail("a detector with $wrong, expected $shape; convert it again")
                }
            }
        }

        private fun tasks(spec: JsonObject): List<Head> {
            if (!spec.has("tasks")) return emptyList()
            val found = spec.objects("tasks").map { task ->
                val classes = task.integer("num_classes", 1L..MAX_CLASSES).toInt()
                val labels = task.textsOrNull("labels")?.map { oneLine(it, 100) }
                if (labels != null && labels.size != classes) {
                    task.fail("${labels.size} labels for $classes classes")
                }
                Head(task.text("name"), classes, labels)
            }
            if (found.map { it.name }.toSet().size != found.size || found.any { !NAME.matches(it.name) || it.name == "logits" }) {
                spec.fail("tasks must have names of their own, of letters, digits and _")
            }
            return found
        }

        private fun fileName(manifest: JsonObject): String {
            val name = manifest.text("file")
            val plain =
                name.length in 1..200 &&
                    name == oneLine(name) &&
                    name.none { it in "/\\:" } &&
                    name.any { it != '.' }
            if (!plain) {
                manifest.fail("file ${oneLine(name, 60)} is not the name of a file in its folder")
            }
            return name
        }

        private fun rejections(manifest: JsonObject): List<String> {
            val judgment =
                manifest.objectOrNull("quantization")?.objectOrNull("judgment")
                    ?: return emptyList()
            if (!judgment.flag("rejected")) return emptyList()
            return judgment
                .textsOrNull("reasons")
                .orEmpty()
                .map { oneLine(it) }
                .ifEmpty { listOf("it does the task too badly") }
        }

        private fun input(input: JsonObject?): AppInput {
            if (input == null) {
                throw ArtifactException(
                    "manifest.json: app_input is missing; the file does not take one image"
                )
            }
            val layout = input.text("layout")
            if (layout !in LAYOUTS) {
                input.fail(
                    "layout ${oneLine(layout, 40)} is not known to this app; NCHW and NHWC are"
                )
            }
            for ((key, value) in EXPECTED) if (input.text(key) != value)
                input.fail("$key must be $value for this app")
            val shape = input.integers("shape", 1..MAX_SIDE)
            val nchw = layout == "NCHW"
            if (shape.size != 4 || shape[0] != 1L || shape[if (nchw) 1 else 3] != 3L) {
                input.fail("shape $shape is not that of one RGB image in $layout")
            }
            val (height, width) = if (nchw) shape.drop(2) else shape.subList(1, 3)
            val range = input.numbers("range").map { it.toFloat() }
            if (range.size != 2 || range[0] >= range[1] || range.any { it.isInfinite() }) {
                input.fail("range must be two numbers, the lower one first")
            }
            return AppInput(
                name = oneLine(input.text("name"), 100),
                layout = Layout.valueOf(layout),
                height = height.toInt(),
                width = width.toInt(),
                low = range[0],
                high = range[1],
                resizing = resizing(input.objectAt("resizing"), listOf(height, width)),
            )
        }

        internal fun resizing(resizing: JsonObject, size: List<Long>): Resizing {
            val mode = resizing.text("mode")
            val filter = resizing.text("filter")
            if (!resizing.flag("antialias")) {
                resizing.fail("without antialias is not known to this app")
            }
            if (filter !in FILTERS) {
                resizing.fail("filter ${oneLine(filter, 40)} is not known to this app")
            }
            val given = resizing.integers("size", 1..MAX_SIDE)
            val squash = mode == "squash"
            if (!squash && mode != "shorter side") {
                resizing.fail("mode ${oneLine(mode, 40)} is not known to this app")
            }
            if (squash && given != size) resizing.fail("size $given is not the input's, $size")
            if (!squash && given.size != 1) {
                resizing.fail("size must be one number, the shorter side")
            }
            if (!squash && resizing.integers("center_crop", 1..MAX_SIDE) != size) {
                resizing.fail("center_crop is not the input's size, $size")
            }
            val (height, width) = size.map { it.toInt() }
            return Resizing(
                squash,
                if (squash) minOf(height, width) else given[0].toInt(),
                Filter.valueOf(filter.uppercase()),
                height,
                width,
            )
        }

        private val FORMATS =
            mapOf(
                "tflite" to setOf<String?>(null),
                "executorch" to setOf(null, "xnnpack"),
            )
        private val FIRST_ENTRY = mapOf("tflite" to "serving_default", "executorch" to "forward")
        private val LAYOUTS = Layout.entries.map { it.name }
        private val FILTERS = Filter.entries.map { it.name.lowercase() }
        private val EXPECTED =
            mapOf("dtype" to "float32", "channel_order" to "RGB", "mean_and_std" to "in the graph")
        private val SHA256 = Regex("[0-9a-f]{64}")
        private val NAME = Regex("[a-z][a-z0-9_]{0,39}")
        private const val BOXES = "boxes"
        private const val MAX_CLASSES = 1_000_000L
        private const val MAX_QUERIES = 4096L
        private const val MAX_SIDE = 4096L
    }
}
