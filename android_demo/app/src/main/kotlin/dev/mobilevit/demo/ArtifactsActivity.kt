package dev.mobilevit.demo

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.provider.OpenableColumns
import android.text.format.Formatter
import android.view.LayoutInflater
import android.view.View
import android.widget.LinearLayout
import android.widget.TextView
import dev.mobilevit.core.ArtifactException
import dev.mobilevit.demo.views.breakable
import java.io.IOException

private const val PICK_ZIP = 1

/** Chooses among the artifacts on this phone, and unpacks a .zip. */
class ArtifactsActivity : Activity() {
    private val app
        get() = application as DemoApplication

    private val note by lazy { findViewById<TextView>(R.id.note) }

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.artifacts)
        findViewById<TextView>(R.id.title).setText(R.string.artifacts)
        findViewById<View>(R.id.back).setOnClickListener { finish() }
        findViewById<View>(R.id.open).setOnClickListener { pickZip() }
        val zip = intent.data
        if (zip != null && saved == null) import(zip) else list()
    }

    /** Lists the artifacts below [news], which stays. */
    private fun list(news: String? = null, isProblem: Boolean = false) {
        tell(news ?: getString(R.string.reading_artifacts), isProblem)
        app.inBackground({ app.library.entries() }) { entries ->
            val nothing =
                if (entries.isEmpty()) getString(R.string.no_artifacts, app.library.folder)
                else null
            tell(news ?: nothing, isProblem)
            val rows = findViewById<LinearLayout>(R.id.entries)
            rows.removeAllViews()
            entries.forEach { rows.addView(row(it, rows)) }
        }
    }

    private fun row(entry: Entry, parent: LinearLayout): View {
        val row = LayoutInflater.from(this).inflate(R.layout.entry, parent, false)
        row.findViewById<TextView>(R.id.name).text = breakable(entry.name)
        val facts = row.findViewById<TextView>(R.id.facts)
        val artifact = entry.artifact
        if (artifact == null) {
            facts.text = entry.problem
            facts.setTextColor(getColor(R.color.bad))
            return row
        }
        val source =
            when (entry.source) {
                Entry.Source.BUNDLED -> R.string.source_bundled
                Entry.Source.FOLDER -> R.string.source_folder
                Entry.Source.IMPORTED -> R.string.source_imported
            }
        val manifest = artifact.manifest
        val size = Formatter.formatShortFileSize(this, manifest.bytes)
        facts.text =
            listOfNotNull(
                    manifest.format,
                    manifest.precision,
                    size,
                    if (manifest.queries > 0) getString(R.string.detects) else null,
                    getString(source),
                )
                .joinToString(" · ")
        row.setOnClickListener {
            app.classifying.use(artifact)
            finish()
        }
        return row
    }

    private fun pickZip() {
        if (!pickFile("application/zip", PICK_ZIP)) tell(getString(R.string.no_file_app), true)
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        if (request == PICK_ZIP && result == RESULT_OK) data?.data?.let(::import)
    }

    private fun import(uri: Uri) {
        tell(getString(R.string.reading_artifacts), false)
        app.inBackground({
            try {
                val name = nameOf(uri)
                open(contentResolver, uri) { app.library.import(it, name) } to null
            } catch (error: ArtifactException) {
                null to error.message
            } catch (error: IOException) {
                null to error.message
            }
        }) { (artifact, problem) ->
            if (artifact == null) {
                list(problem, isProblem = true)
            } else {
                app.classifying.use(artifact)
                list(getString(R.string.imported, artifact.name))
            }
        }
    }

    /** The other app's name for its file; its word may be missing, and it may fail. */
    private fun nameOf(uri: Uri): String? =
        try {
            contentResolver
                .query(uri, arrayOf(OpenableColumns.DISPLAY_NAME), null, null, null)
                ?.use {
                    if (it.moveToFirst()) it.getString(0) else null
                }
        } catch (_: RuntimeException) {
            null
        }

    private fun tell(text: String?, isProblem: Boolean) {
        note.text = text
        note.visibility = if (text == null) View.GONE else View.VISIBLE
        note.setTextColor(getColor(if (isProblem) R.color.bad else R.color.text_quiet))
    }

    companion object {
        /**
         * Unpacks what [uri] gives, which this app may read as long as the activity that got it
         * lives.
         */
        fun importing(context: Context, uri: Uri): Intent =
            Intent(context, ArtifactsActivity::class.java).setData(uri)
    }
}
