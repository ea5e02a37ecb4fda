package dev.mobilevit.core

/**
 * One of the input sizes of a file: [name] is that of its signature or method, null where there is
 * only one, whatever that is called. [outputs] are the names of its outputs in the file.
 */
data class EntryPoint(val name: String?, val input: AppInput, val outputs: List<String>)

/**
 * The place of the entry that an upright picture takes: |log(w/h of the picture) - log(w/h of the
 * entry)| is smallest, of equally near ones the first.
 */
fun List<EntryPoint>.nearest(width: Int, height: Int): Int = indices.minBy {
    val across = width.toLong() * this[it].input.height
    val down = height.toLong() * this[it].input.width
    // The exponential, which whole numbers give all languages alike.
    maxOf(across, down).toDouble() / minOf(across, down)
}

private const val MOST = 16

/**
 * The entries of a manifest, each checked against the first, which is what the rest of the
 * manifest describes: [input], and its outputs. [first] is what that one is called, and [readInput]
 * reads an `app_input`. Throws [ArtifactException].
 */
internal fun readEntries(
    manifest: JsonObject,
    input: AppInput,
    first: String,
    readInput: (JsonObject) -> AppInput,
): List<EntryPoint> {
    val isSeveral = manifest.integer("schema", 1L..2L) == 2L
    if (isSeveral != manifest.has("entries")) {
        manifest.fail("schema ${if (isSeveral) "2 without" else "1 with"} entries")
    }
    val spec = manifest.objectAt("spec")
    val sizes = if (spec.has("image_sizes")) spec.pairs("image_sizes") else null
    if (!isSeveral) {
        if (sizes != null) spec.fail("image_sizes is there, and the file has no entries")
        return listOf(EntryPoint(null, input, emptyList()))
    }
    val rows = manifest.objects("entries")
    if (rows.size !in 2..MOST) manifest.fail("${rows.size} entries, expected 2 to $MOST")
    if (rows.map { it.integers("image_size", 1L..Int.MAX_VALUE) } != sizes) {
        spec.fail("image_sizes $sizes are not those of the entries")
    }
    if (sizes.toSet().size != sizes.size) manifest.fail("two entries have one image_size")
    val outputs = outputs(manifest)
    return rows.mapIndexed { place, row ->
        val (height, width) = sizes[place]
        val name = row.text("name")
        val expected = if (place == 0) first else "image_${height}x$width"
        if (name != expected) row.fail("name ${oneLine(name, 60)}, expected $expected")
        val own = readInput(row.objectAt("app_input"))
        if (own.height.toLong() != height || own.width.toLong() != width) {
            row.fail("app_input is ${own.height}x${own.width}, image_size ${height}x$width")
        }
        val isAlike = own.name == input.name && own.layout == input.layout
        if (!isAlike || own.low != input.low || own.high != input.high || outputs(row) != outputs) {
            row.fail("it does not take and answer what the file's first entry does")
        }
        if (place == 0 && own != input) row.fail("app_input is not that of the file")
        EntryPoint(name, own, outputs.map { it.first })
    }
}

private fun outputs(of: JsonObject): List<Pair<String, List<Long>>> =
    of.objects("outputs").map { it.text("name") to it.integers("shape", 1L..Int.MAX_VALUE) }
