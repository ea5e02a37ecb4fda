package dev.mobilevit.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

private const val MAX_DEPTH = 64

/**
 * One JSON object from an untrusted file, with typed access. Whatever does not fit throws
 * [ArtifactException].
 */
internal class JsonObject(private val members: Map<String, Any?>, private val where: String) {
    val keys: Set<String>
        get() = members.keys

    fun text(key: String): String = require(key, "text")

    /** Whether the member is there, and not null. */
    fun has(key: String): Boolean = members[key] != null

    fun textOrNull(key: String): String? = if (members[key] == null) null else text(key)

    fun flag(key: String): Boolean = require(key, "true or false")

    fun objectAt(key: String): JsonObject = JsonObject(require(key, "an object"), "$where.$key")

    fun objectOrNull(key: String): JsonObject? = if (members[key] == null) null else objectAt(key)

    fun texts(key: String): List<String> =
        list(key).map { it as? String ?: fail("$key must hold texts") }

    fun textsOrNull(key: String): List<String>? = if (members[key] == null) null else texts(key)

    fun objects(key: String): List<JsonObject> =
        list(key).mapIndexed { index, value ->
            JsonObject(asObject(value) ?: fail("$key must hold objects"), "$where.$key[$index]")
        }

    fun numbers(key: String): List<Double> =
        list(key).map { (it as? Number)?.toDouble() ?: fail("$key must hold numbers") }

    fun integers(key: String, range: LongRange): List<Long> =
        list(key).map { value ->
            (value as? Long)?.takeIf { it in range }
                ?: fail("$key must hold integers of ${range.first} to ${range.last}")
        }

    /** Lists of two integers of at least 1. */
    fun pairs(key: String): List<List<Long>> =
        list(key).map { pair ->
            (pair as? List<*>)
                ?.map { (it as? Long)?.takeIf { value -> value > 0 } }
                ?.filterNotNull()
                ?.takeIf { it.size == 2 && pair.size == 2 } ?: fail("$key must hold pairs of integers")
        }

    fun integer(key: String, range: LongRange): Long {
        val value: Long = require(key, "an integer")
        return if (value in range) value
        else fail("$key must be ${range.first} to ${range.last}, not $value")
    }

    fun fail(what: String): Nothing = throw ArtifactException("$where: $what")

    private fun list(key: String): List<Any?> = require(key, "a list")

    private inline fun <reified T> require(key: String, kind: String): T {
        if (key !in members) fail("$key is missing")
        return members[key] as? T ?: fail("$key must be $kind")
    }
}

/** The object that a JSON document is; [where] names the document in errors. */
internal fun parseJsonObject(bytes: ByteBuffer, where: String): JsonObject =
    JsonObject(
        asObject(parseJson(bytes, where)) ?: throw ArtifactException("$where is not a JSON object"),
        where,
    )

internal fun parseJsonObjects(text: String, where: String): List<JsonObject> =
    JsonObject(mapOf("list" to JsonParser(text, where).document()), where).objects("list")

/**
 * A document as Map, List, String, Long, Double, Boolean or null. Strict: UTF-8, no key twice,
 * numbers that are finite, at most 64 levels, nothing after the end.
 */
internal fun parseJson(bytes: ByteBuffer, where: String): Any? {
    val decoder =
        Charsets.UTF_8.newDecoder()
            .onMalformedInput(CodingErrorAction.REPORT)
            .onUnmappableCharacter(CodingErrorAction.REPORT)
    val text =
        try {
            decoder.decode(bytes.duplicate()).toString()
        } catch (error: CharacterCodingException) {
            throw ArtifactException("$where is not UTF-8 text", error)
        }
    return JsonParser(text, where).document()
}

@Suppress("UNCHECKED_CAST") // the parser makes maps with such keys only
private fun asObject(value: Any?): Map<String, Any?>? = value as? Map<String, Any?>

private class JsonParser(private val text: String, private val where: String) {
    private var at = 0

    fun document(): Any? {
        val value = value(0)
        skipSpace()
        if (at < text.length) fail("nothing may follow its end")
        return value
    }

    private fun value(depth: Int): Any? {
        skipSpace()
        if (depth >= MAX_DEPTH && peek() in "{[") {
            fail("it is nested more than $MAX_DEPTH levels deep")
        }
        return when (peek()) {
            '{' -> members(depth)
            '[' -> elements(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun members(depth: Int): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        at++
        skipSpace()
        if (take('}')) return found
        do {
            skipSpace()
            if (peek() != '"') fail("a key in quotes is expected")
            val key = string()
            skipSpace()
            if (!take(':')) fail("a colon is expected")
            if (key in found) fail("a key is there twice: ${oneLine(key, 40)}")
            found[key] = value(depth + 1)
            skipSpace()
        } while (take(','))
        if (!take('}')) fail("a comma or brace is expected")
        return found
    }

    private fun elements(depth: Int): List<Any?> {
        val found = ArrayList<Any?>()
        at++
        skipSpace()
        if (take(']')) return found
        do {
            found += value(depth + 1)
            skipSpace()
        } while (take(','))
        if (!take(']')) fail("a comma or bracket is expected")
        return found
    }

    private fun string(): String {
        val built = StringBuilder()
        at++
        while (true) {
            val character = peek()
            at++
            when {
                character == '"' -> break
                character == '\\' -> built.append(escaped())
                character < ' ' -> fail("a text has a raw control character")
                else -> built.append(character)
            }
        }
        if (hasLoneSurrogate(built)) fail("a text has half of a surrogate pair")
        return built.toString()
    }

    private fun escaped(): Char {
        val character = peek()
        at++
        return when (character) {
            '"',
            '\\',
            '/' -> character
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(at, minOf(at + 4, text.length))
                if (
                    digits.length < 4 ||
                        !digits.all { it in '0'..'9' || it.lowercaseChar() in 'a'..'f' }
                ) {
                    fail("four hexadecimal digits are expected")
                }
                at += 4
                digits.toInt(16).toChar()
            }
            else -> fail("an unknown escape")
        }
    }

    private fun number(): Number {
        val match =
            NUMBER.find(text, at)?.takeIf { it.range.first == at } ?: fail("a value is expected")
        if (match.value.length > 400) fail("a number is too long")
        at = match.range.last + 1
        if (match.groupValues[1].isEmpty()) {
            match.value.toLongOrNull()?.let {
                return it
            }
        }
        return match.value.toDouble().takeIf { it <= Double.MAX_VALUE && it >= -Double.MAX_VALUE }
            ?: fail("a number is too large")
    }

    private fun word(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) fail("a value is expected")
        at += word.length
        return value
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("it ends too early")

    private fun take(character: Char): Boolean =
        (at < text.length && text[at] == character).also { if (it) at++ }

    private fun fail(what: String): Nothing =
        throw ArtifactException("$where is not JSON: $what (at character $at)")

    private companion object {
        val NUMBER =
            Regex("""-?(?:0|[1-9][0-9]{0,999})((?:\.[0-9]{1,999})?(?:[eE][+-]?[0-9]{1,9})?)""")
    }
}
