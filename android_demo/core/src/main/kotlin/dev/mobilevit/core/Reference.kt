package dev.mobilevit.core

/**
 * One reference image, of the size of the entry at [entry]. An edge case, such as noise, does not
 * count for files of integers.
 */
data class ReferenceCase(val name: String, val edge: Boolean, val entry: Int = 0)

/** `reference.safetensors`: images as an app has them after resizing, and PyTorch's answers. */
class Reference
private constructor(
    /** Those of all entries, in their order. */
    val cases: List<ReferenceCase>,
    /** How many numbers each output has in one answer. */
    private val sizes: List<Int>,
    /** Of the bytes of the file. */
    val sha256: String,
    private val content: ByteArray,
    private val entries: List<EntryPoint>,
    /** Of each entry, where in [content] its images begin. */
    private val images: List<Int>,
    private val answers: List<FloatArray>,
) {
    /** How many numbers one answer has. */
    val answerSize = sizes.sum()

    /** The image of a case, in a new picture. */
    fun image(index: Int): Picture {
        val entry = cases[index].entry
        val (width, height) = entries[entry].input.run { width to height }
        val picture = Picture(width, height)
        val plane = width * height
        val first = images[entry] + 3 * plane * (index - cases.indexOfFirst { it.entry == entry })
        for (pixel in 0 until plane) {
            for (channel in 0..2) picture.rgb[3 * pixel + channel] =
                content[first + plane * channel + pixel]
        }
        return picture
    }

    /** PyTorch's answer to a case: all outputs, one after the other. */
    fun answer(index: Int): FloatArray {
        val answer = FloatArray(answerSize)
        var at = 0
        for ((size, values) in sizes.zip(answers)) {
            values.copyInto(answer, at, size * index, size * (index + 1))
            at += size
        }
        return answer
    }

    /** An answer by output. */
    fun split(answer: FloatArray): List<FloatArray> {
        val ends = sizes.runningFold(0, Int::plus)
        return sizes.indices.map { answer.copyOfRange(ends[it], ends[it + 1]) }
    }

    companion object {
        const val FILE = "reference.safetensors"
        private const val MAX_CASES = 10_000
        private val ROLES = setOf("image", "view", "edge")

        /**
         * Reads the file's [content]. Throws [ArtifactException] where it is malformed or not for
         * [manifest].
         */
        fun read(content: ByteArray, manifest: Manifest): Reference {
            val file = Safetensors.read(content, FILE)
            val rows =
                parseJsonObjects(
                    file.metadata["cases"]
                        ?: throw ArtifactException("$FILE says nothing of its cases"),
                    "the cases of $FILE",
                )
            if (rows.isEmpty() || rows.size > MAX_CASES) {
                throw ArtifactException("$FILE must have 1 to $MAX_CASES cases")
            }
            val images = manifest.entries.mapIndexed { entry, point ->
                images(file, entry, point.input, rows.size.takeIf { manifest.entries.size == 1 })
            }
            val owners = images.flatMapIndexed { entry, tensor ->
                List(tensor.shape[0].coerceAtMost(MAX_CASES.toLong()).toInt()) { entry }
            }
            if (owners.size != rows.size) {
                throw ArtifactException("$FILE has ${owners.size} images for ${rows.size} cases")
            }
            val cases = rows.zip(owners) { row, entry ->
                val role = row.textOrNull("role") ?: "view"
                if (role !in ROLES) row.fail("role ${oneLine(role, 20)} is not known")
                ReferenceCase(row.text("name"), role == "edge", entry)
            }
            val answers = manifest.heads.map { answers(file, it, rows.size) }
            val sha256 = newSha256().apply { update(content) }.hex()
            return Reference(
                cases,
                answers.map { it.size / rows.size },
                sha256,
                content,
                manifest.entries,
                images.map { it.begin },
                answers,
            )
        }

        /** The images of an entry, [count] of them, or where that is null at least one. */
        private fun images(
            file: Safetensors,
            entry: Int,
            input: AppInput,
            count: Int?,
        ): StoredTensor {
            val size = "${input.height}x${input.width}"
            val name = if (entry == 0) "images" else "images_$size"
            val images = file.find(name, "U8", 4)
            val cases = count?.toLong() ?: images.shape[0].coerceAtLeast(1)
            val expected = listOf(cases, 3L, input.height.toLong(), input.width.toLong())
            if (images.shape != expected) {
                throw ArtifactException("$FILE: $name are ${images.shape}, expected $expected")
            }
            return images
        }

        /** The values of an output in all cases: of scores one for each class. */
        private fun answers(file: Safetensors, head: Head, cases: Int): FloatArray {
            val isKnown = head.kind != Kind.FEATURES
            val rank =
                when (head.kind) {
                    Kind.SCORES -> 2
                    Kind.FEATURES -> file.tensors[head.name]?.shape?.size ?: 2
                    Kind.QUERY_SCORES,
                    Kind.BOXES -> 3
                }
            val answers = file.find(head.name, "F32", rank)
            val size = answers.shape.drop(1).fold(1L, Long::times)
            val isFitting =
                answers.shape.size > 1 && answers.shape[0] == cases.toLong() && size > 0
            if (!isFitting || (isKnown && size != head.values.toLong())) {
                throw ArtifactException(
                    "$FILE: ${head.name} are ${answers.shape}, which does not fit the manifest"
                )
            }
            val values = file.floats(answers)
            if (values.any { it.isNaN() || it.isInfinite() }) {
                throw ArtifactException("$FILE: ${head.name} are not finite")
            }
            return values
        }
    }
}
