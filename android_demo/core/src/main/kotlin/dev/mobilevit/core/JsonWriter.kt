package dev.mobilevit.core

/** Map, List, String, Boolean, null and numbers as JSON without spaces. Numbers must be finite. */
internal fun writeJson(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

private fun write(value: Any?, into: StringBuilder) {
    when (value) {
        null,
        is Boolean,
        is Int,
        is Long -> into.append(value)
        is Double -> {
            require(!value.isNaN() && !value.isInfinite()) { "JSON has no $value" }
            into.append(value)
        }
        is String -> writeText(value, into)
        is List<*> -> writeAll(value, '[', ']', into) { write(it, into) }
        is Map<*, *> ->
            writeAll(value.entries, '{', '}', into) {
                writeText(it.key as String, into)
                into.append(':')
                write(it.value, into)
            }
        else -> throw IllegalArgumentException("JSON has no ${value.javaClass.simpleName}")
    }
}

private fun <T> writeAll(
    values: Collection<T>,
    open: Char,
    close: Char,
    into: StringBuilder,
    writeOne: (T) -> Unit,
) {
    into.append(open)
    for ((index, value) in values.withIndex()) {
        if (index > 0) into.append(',')
        writeOne(value)
    }
    into.append(close)
}

private fun writeText(text: String, into: StringBuilder) {
    into.append('"')
    for ((index, character) in text.withIndex()) {
        when {
            character == '"' || character == '\\' -> into.append('\\').append(character)
            character < ' ' || character == '\u007f' ->
                into.append("\\u%04x".format(character.code))
            isLone(text, index) -> into.append('\ufffd') // UTF-8 has no halves of pairs
            else -> into.append(character)
        }
    }
    into.append('"')
}

private fun isLone(text: String, index: Int): Boolean {
    val character = text[index]
    if (character.isHighSurrogate()) {
        return index + 1 == text.length || !text[index + 1].isLowSurrogate()
    }
    return character.isLowSurrogate() && (index == 0 || !text[index - 1].isHighSurrogate())
}
