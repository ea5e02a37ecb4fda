package dev.mobilevit.core

import java.io.File
import java.io.InputStream

/** An artifact's folder whose file is the one that its manifest describes. */
class ArtifactFolder private constructor(val folder: File, val manifest: Manifest) {
    /** The folder's name, such as "mobilevit_xxs-tflite-fp32". */
    val name: String get() = folder.name

    /** The phone file. */
    val file: File get() = File(folder, manifest.file)

    /** The reference vectors, read anew at each call. */
    fun reference(): Reference = TODO()

    companion object {
        /** Reads the manifest and checks the file's size and hash. Throws [ArtifactException]. */
        fun open(folder: File): ArtifactFolder = TODO()

        /**
         * Unpacks a .zip with one artifact, at its top or in one folder, below [parent], and opens it; one of the same
         * name is replaced. [name] is used where the zip has no folder. Nothing is left behind where it throws
         * [ArtifactException].
         */
        fun unzip(zip: InputStream, parent: File, name: String): ArtifactFolder = TODO()

        /** The folders below [parent] that hold a manifest, by name. */
        fun list(parent: File): List<File> = TODO()
    }
}
