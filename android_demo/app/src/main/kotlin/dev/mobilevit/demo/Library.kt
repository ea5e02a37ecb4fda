package dev.mobilevit.demo

import android.content.Context
import android.content.pm.PackageManager
import android.content.res.AssetManager
import dev.mobilevit.core.ArtifactException
import dev.mobilevit.core.ArtifactFolder
import java.io.File
import java.io.IOException
import java.io.InputStream

private val NAME = Regex("[A-Za-z0-9._-]{1,100}")

/** One artifact that the picker shows: opened, or [problem] says why not. */
class Entry(
    val folder: File,
    val source: Source,
    val artifact: ArtifactFolder?,
    val problem: String?,
) {
    val name: String
        get() = folder.name

    enum class Source {
        BUNDLED,
        FOLDER,
        IMPORTED,
    }
}

/**
 * The artifacts on this phone, and the folder of its reports. All but the folders' names read
 * files: not on the main thread.
 */
class Library(private val context: Context) {
    /**
     * Pushed by `adb`, or copied by a file manager:
     * `Android/data/dev.mobilevit.demo/files/artifacts`.
     */
    val folder: File
        get() = outside("artifacts")

    val reports: File
        get() = outside("reports")

    private val imported: File
        get() = File(context.filesDir, "imported")

    private val bundled: File
        get() = File(context.filesDir, "bundled")

    /** All artifacts; a damaged one is an entry with a problem. */
    fun entries(): List<Entry> {
        unpackAssets()
        return entries(imported, Entry.Source.IMPORTED) +
            entries(folder, Entry.Source.FOLDER) +
            entries(bundled, Entry.Source.BUNDLED)
    }

    private fun entries(parent: File, source: Entry.Source): List<Entry> =
        ArtifactFolder.list(parent).map { folder ->
            try {
                Entry(folder, source, ArtifactFolder.open(folder), null)
            } catch (error: ArtifactException) {
                Entry(folder, source, null, error.message)
            }
        }

    /** The artifact in [folder], as `--es verify NAME` names it. Throws [ArtifactException]. */
    fun pushed(name: String): ArtifactFolder {
        if (!isName(name))
            throw ArtifactException("\"$name\" is not the name of an artifact's folder")
        return ArtifactFolder.open(File(folder, name))
    }

    /** Unpacks a .zip that was shared with the app. Throws [ArtifactException]. */
    fun import(zip: InputStream, fileName: String?): ArtifactFolder {
        val stem = fileName.orEmpty().substringAfterLast('/').removeSuffix(".zip")
        return ArtifactFolder.unzip(zip, imported, if (isName(stem)) stem else "imported")
    }

    /**
     * Native libraries read files from disk, so what lies in the .apk is copied once for each
     * installed version of the app.
     */
    private fun unpackAssets() {
        val version =
            try {
                context.packageManager
                    .getPackageInfo(context.packageName, 0)
                    .lastUpdateTime
                    .toString()
            } catch (_: PackageManager.NameNotFoundException) {
                ""
            }
        val mark = File(bundled, "version")
        if (mark.isFile && mark.readText() == version) return
        try {
            bundled.deleteRecursively()
            bundled.mkdirs()
            context.assets.copyTree("artifacts", bundled)
            mark.writeText(version)
        } catch (_: IOException) {
            bundled.deleteRecursively() // The disk is full: tried again at the next start.
        }
    }

    private fun outside(name: String): File =
        context.getExternalFilesDir(name) ?: File(context.filesDir, name).apply { mkdirs() }
}

/** Whether [name] is one plain name of a folder, and no path. */
internal fun isName(name: String): Boolean = NAME.matches(name) && name != "." && name != ".."

private fun AssetManager.copyTree(path: String, target: File) {
    val names = list(path).orEmpty()
    if (names.isEmpty()) {
        try {
            open(path).use { source -> target.outputStream().use { source.copyTo(it) } }
        } catch (_: java.io.FileNotFoundException) {
            // A folder without files, which `list` does not tell from a file.
        }
        return
    }
    target.mkdirs()
    names.forEach { copyTree("$path/$it", File(target, it)) }
}
