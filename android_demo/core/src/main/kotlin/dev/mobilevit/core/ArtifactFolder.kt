package dev.mobilevit.core

import java.io.File
import java.io.IOException
import java.io.InputStream

/** An artifact's folder whose file is the one that its manifest describes. */
class ArtifactFolder private constructor(val folder: File, val manifest: Manifest) {
    /** The folder's name, such as "mobilevit_xxs-tflite-fp32". */
    val name: String
        get() = folder.name

    /** The phone file. */
    val file: File
        get() = File(folder, manifest.file)

    /** The reference vectors, read anew at each call. Throws [ArtifactException]. */
    fun reference(): Reference =
        Reference.read(readBounded(File(folder, Reference.FILE), MAX_REFERENCE), manifest)

    companion object {
        const val MANIFEST = "manifest.json"
        private const val MAX_MANIFEST = 4 shl 20
        private const val MAX_REFERENCE = 256 shl 20 // of several sizes
        private const val FRESH = ".unpacking"
        private const val REPLACED = ".replaced-"

        /** Reads the manifest and checks the file's size and hash. Throws [ArtifactException]. */
        fun open(folder: File): ArtifactFolder {
            if (!File(folder, MANIFEST).isFile) {
                throw ArtifactException(
                    "${oneLine(folder.name, 80)} is not an artifact: it has no $MANIFEST"
                )
            }
            val manifest = Manifest.read(readBounded(File(folder, MANIFEST), MAX_MANIFEST))
            checkFile(File(folder, manifest.file), manifest)
            return ArtifactFolder(folder, manifest)
        }

        /**
         * Unpacks a .zip with one artifact, at its top or in one folder, below [parent], and opens
         * it; one of the same name is replaced. [name] is used where the zip has no folder. Nothing
         * is left behind where it throws [ArtifactException], and the artifact of before stays. One
         * call at a time for a [parent].
         */
        fun unzip(zip: InputStream, parent: File, name: String): ArtifactFolder {
            sweep(parent)
            val fresh = File(parent, FRESH)
            try {
                if (!fresh.mkdirs()) throw IOException("cannot make ${fresh.path}")
                val target = File(parent, folderName(unpack(zip, fresh) ?: name))
                val manifest = open(fresh).manifest
                if (target.exists() && !target.renameTo(File(parent, REPLACED + target.name))) {
                    throw IOException("cannot replace ${target.name}")
                }
                if (!fresh.renameTo(target)) throw IOException("cannot write ${target.name}")
                return ArtifactFolder(target, manifest)
            } catch (error: IOException) {
                throw ArtifactException(
                    "the zip cannot be unpacked: ${oneLine(error.message ?: "it is damaged")}",
                    error,
                )
            } finally {
                sweep(parent)
            }
        }

        /**
         * Removes what a call left that was killed; an artifact that was moved aside and not
         * replaced comes back.
         */
        private fun sweep(parent: File) {
            File(parent, FRESH).deleteRecursively()
            for (old in parent.listFiles().orEmpty().filter { it.name.startsWith(REPLACED) }) {
                val target = File(parent, old.name.removePrefix(REPLACED))
                if (target.exists()) old.deleteRecursively() else old.renameTo(target)
            }
        }

        /**
         * The folders below [parent] that hold a manifest, by name; none where there is no such
         * folder.
         */
        fun list(parent: File): List<File> =
            parent
                .listFiles()
                .orEmpty()
                .filter { !it.name.startsWith(".") && File(it, MANIFEST).isFile }
                .sortedBy { it.name }

        /** Letters, digits, dots, underscores and hyphens, as adb and reports can say them. */
        private fun folderName(name: String): String =
            name.replace(Regex("[^A-Za-z0-9._-]"), "-").trimStart('.').take(100).ifEmpty {
                "artifact"
            }

        private fun checkFile(file: File, manifest: Manifest) {
            if (!file.isFile) {
                throw ArtifactException("${manifest.file} is missing beside $MANIFEST")
            }
            if (file.length() != manifest.bytes) {
                throw ArtifactException(
                    "${manifest.file} has ${file.length()} bytes, but $MANIFEST says ${manifest.bytes}"
                )
            }
            val hash = newSha256()
            val buffer = ByteArray(1 shl 16)
            reading(file) { stream ->
                while (true) {
                    val count = stream.read(buffer)
                    if (count < 0) break
                    hash.update(buffer, 0, count)
                }
            }
            if (hash.hex() != manifest.sha256) {
                throw ArtifactException(
                    "${manifest.file} is not the file of its $MANIFEST: its SHA-256 differs"
                )
            }
        }

        private fun readBounded(file: File, most: Int): ByteArray {
            if (!file.isFile) throw ArtifactException("${file.name} is missing")
            if (file.length() > most) {
                throw ArtifactException("${file.name} is larger than ${most shr 20} MiB")
            }
            return reading(file) { it.readBytes() }
        }

        private fun <T> reading(file: File, read: (InputStream) -> T): T =
            try {
                file.inputStream().use(read)
            } catch (error: IOException) {
                throw ArtifactException(
                    "${file.name} cannot be read: ${oneLine(error.message ?: "unknown reason")}",
                    error,
                )
            }
    }
}
