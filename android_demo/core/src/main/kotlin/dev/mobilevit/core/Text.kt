package dev.mobilevit.core

import java.security.MessageDigest

/** [text] on one line, without control characters, cut to [longest]. */
internal fun oneLine(text: String, longest: Int = 300): String {
    val line =
        text
            .map { if (it < ' ' || it in '\u007f'..'\u009f' || it in "\u2028\u2029") ' ' else it }
            .joinToString("")
            .trim()
            .replace(SPACES, " ")
    return if (line.length <= longest) line else line.take(longest - 1) + "…"
}

internal fun hasLoneSurrogate(text: CharSequence): Boolean {
    var index = 0
    while (index < text.length) {
        val pair =
            text[index].isHighSurrogate() &&
                index + 1 < text.length &&
                text[index + 1].isLowSurrogate()
        if (text[index].isSurrogate() && !pair) return true
        index += if (pair) 2 else 1
    }
    return false
}

internal fun newSha256(): MessageDigest = MessageDigest.getInstance("SHA-256")

/** The digest as lowercase hexadecimal digits. */
internal fun MessageDigest.hex(): String = digest().joinToString("") { "%02x".format(it) }

private val SPACES = Regex(" {2,}")
