package dev.mobilevit.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

private const val AUTHORITY = "dev.mobilevit.demo.reports"

/**
 * Lets the app that a report is shared with read it: the reports' folder alone, and only what was
 * granted.
 */
class ReportProvider : ContentProvider() {
    override fun onCreate() = true

    override fun getType(uri: Uri) = "application/json"

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r") throw FileNotFoundException("reports are read-only")
        return ParcelFileDescriptor.open(file(uri), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(
        uri: Uri,
        projection: Array<String>?,
        selection: String?,
        args: Array<String>?,
        order: String?,
    ): Cursor {
        val file = file(uri)
        val columns = projection ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val row = columns.map {
            when (it) {
                OpenableColumns.DISPLAY_NAME -> file.name
                OpenableColumns.SIZE -> file.length()
                else -> null
            }
        }
        return MatrixCursor(columns).apply { addRow(row) }
    }

    /** The file in the reports' folder: one plain name, and no link out of it. */
    private fun file(uri: Uri): File {
        val name = uri.pathSegments.singleOrNull()?.takeIf(::isName)
        val folder = (context!!.applicationContext as DemoApplication).library.reports.canonicalFile
        val file = name?.let { File(folder, it).canonicalFile }
        if (file == null || file.parentFile != folder || !file.isFile)
            throw FileNotFoundException("no such report")
        return file
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? =
        throw UnsupportedOperationException("reports are read-only")

    override fun update(
        uri: Uri,
        values: ContentValues?,
        selection: String?,
        args: Array<String>?,
    ): Int = throw UnsupportedOperationException("reports are read-only")

    override fun delete(uri: Uri, selection: String?, args: Array<String>?): Int =
        throw UnsupportedOperationException("reports are read-only")
}

/** The intent that offers [report] to other apps. */
internal fun shareIntent(context: Context, report: File): Intent {
    val uri = Uri.Builder().scheme("content").authority(AUTHORITY).appendPath(report.name).build()
    val send =
        Intent(Intent.ACTION_SEND)
            .setType("application/json")
            .putExtra(Intent.EXTRA_STREAM, uri)
            .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
    send.clipData = android.content.ClipData.newRawUri(report.name, uri)
    return Intent.createChooser(send, context.getString(R.string.share_report))
}
