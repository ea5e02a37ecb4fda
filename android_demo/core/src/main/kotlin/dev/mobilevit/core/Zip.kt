package dev.mobilevit.core

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipInputStream

private const val MAX_ENTRIES = 1000
internal const val MAX_UNPACKED = 1L shl 30 // bytes of all files together

/**
 * Writes the files of a zip, which lie at its top or in one folder, into [folder], and returns that
 * folder's name; null where they lie at the top. What file managers add is left out. Throws
 * [ArtifactException] for names that leave the folder, another layout, too much content and damage,
 * and IOException where nothing can be written.
 */
internal fun unpack(source: InputStream, folder: File, most: Long = MAX_UNPACKED): String? {
    var left = most
    var parent: String? = null
    val seen = HashSet<String>()
    val zip = ZipInputStream(source)
    var entries = 0
    while (true) {
        val entry = nextEntry(zip) ?: break
        if (++entries > MAX_ENTRIES) {
            throw ArtifactException("the zip has more than $MAX_ENTRIES entries")
        }
        val parts = parts(entry.name)
        if (entry.isDirectory || parts.first() == "__MACOSX" || parts.last().startsWith(".")) {
            left -= copy(zip, null, left, most)
            continue
        }
        val above = if (parts.size == 2) parts[0] else null
        if (parts.size > 2 || (seen.isNotEmpty() && above != parent)) {
            throw ArtifactException(
                "the zip must hold one artifact's files, at its top or in one folder; it has ${oneLine(entry.name, 80)}"
            )
        }
        parent = above
        if (!seen.add(parts.last().lowercase())) {
            throw ArtifactException("the zip has ${oneLine(entry.name, 80)} twice")
        }
        left -= File(folder, parts.last()).outputStream().use { copy(zip, it, left, most) }
    }
    if (seen.isEmpty()) throw ArtifactException("this is not a zip, or it has no files")
    return parent
}

private fun nextEntry(zip: ZipInputStream): ZipEntry? =
    try {
        zip.nextEntry
    } catch (error: IOException) {
        throw damaged(error)
    } catch (error: IllegalArgumentException) { // a name that is not UTF-8
        throw damaged(error)
    }

private fun parts(name: String): List<String> {
    val parts = name.removeSuffix("/").split('/')
    val isSound =
        name.length <= 500 &&
            name.none { it in "\\:" || it < ' ' } &&
            parts.none { it in setOf("", ".", "..") }
    if (!isSound) {
        throw ArtifactException(
            "the zip has a file whose name leads out of it: ${oneLine(name, 80)}"
        )
    }
    return parts
}

/** Reads an entry to its end; the number of its bytes, at most [left]. */
private fun copy(zip: ZipInputStream, out: OutputStream?, left: Long, most: Long): Long {
    val buffer = ByteArray(1 shl 16)
    var copied = 0L
    while (true) {
        val count =
            try {
                zip.read(buffer)
            } catch (error: IOException) {
                throw damaged(error)
            }
        if (count < 0) return copied
        copied += count
        if (copied > left) throw ArtifactException("the zip holds more than $most bytes")
        out?.write(buffer, 0, count)
    }
}

private fun damaged(cause: Exception) =
    ArtifactException("the zip is damaged: ${oneLine(cause.message ?: "it ends too early")}", cause)
