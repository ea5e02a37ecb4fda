package dev.mobilevit.demo

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.text.format.Formatter
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import dev.mobilevit.core.ArtifactFolder
import dev.mobilevit.core.Latency
import dev.mobilevit.core.Verdict
import dev.mobilevit.demo.views.BarView
import dev.mobilevit.demo.views.CasesView
import dev.mobilevit.demo.views.FactsView
import dev.mobilevit.demo.views.breakable
import dev.mobilevit.demo.views.rows
import java.io.File
import java.util.Locale
import kotlin.math.roundToInt

private const val FOLDER = "folder"

/** Runs all reference cases, shows each accelerator's verdict and shares the report. */
class VerifyActivity : Activity() {
    private val app
        get() = application as DemoApplication

    private var observer: AutoCloseable? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.verify)
        window.addFlags(
            WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON
        ) // A phone that dozes slows down, or stops.
        findViewById<View>(R.id.back).setOnClickListener { finish() }
    }

    override fun onStart() {
        super.onStart()
        observer = app.verifying.state.observe(::show)
    }

    override fun onStop() {
        observer?.close()
        super.onStop()
    }

    private fun show(state: VerifyState) {
        val name =
            when (state) {
                VerifyState.Idle -> intent.getStringExtra(FOLDER)?.let { File(it).name }
                is VerifyState.Running -> state.name
                is VerifyState.Done -> state.name
                is VerifyState.Stopped -> state.name
            }
        findViewById<TextView>(R.id.title).text =
            name?.let(::breakable) ?: getString(R.string.verify_title)
        findViewById<TextView>(R.id.about)
            .setText(
                if (state is VerifyState.Done) R.string.verify_preview else R.string.verify_about
            )
        showRunning(state as? VerifyState.Running)
        showReason(state as? VerifyState.Stopped)
        showRows(
            when (state) {
                is VerifyState.Running -> state.rows
                is VerifyState.Done -> state.rows
                else -> emptyList()
            }
        )
        showButtons(state)
    }

    private fun showRunning(state: VerifyState.Running?) {
        findViewById<View>(R.id.running).visibility = if (state == null) View.GONE else View.VISIBLE
        if (state == null) return
        findViewById<TextView>(R.id.step).text =
            if (state.title.isEmpty()) getString(R.string.preparing)
            else getString(R.string.step, state.title, state.index + 1, state.count)
        findViewById<BarView>(R.id.progress).fraction =
            if (state.total == 0) 0f else state.done.toFloat() / state.total
        findViewById<TextView>(R.id.count).text =
            when {
                state.total == 0 -> null
                state.done == state.total -> getString(R.string.measuring)
                else -> getString(R.string.progress, state.done, state.total)
            }
    }

    private fun showReason(state: VerifyState.Stopped?) {
        val reason = findViewById<TextView>(R.id.reason)
        reason.visibility = if (state == null) View.GONE else View.VISIBLE
        reason.text = state?.reason
    }

    private fun showButtons(state: VerifyState) {
        val share = findViewById<Button>(R.id.share)
        share.visibility = if (state is VerifyState.Done) View.VISIBLE else View.GONE
        share.setOnClickListener {
            if (state is VerifyState.Done) startActivity(shareIntent(this, state.report))
        }
        val run = findViewById<Button>(R.id.run)
        run.setText(
            when (state) {
                VerifyState.Idle -> R.string.verify_start
                is VerifyState.Running -> R.string.cancel
                else -> R.string.verify_again
            }
        )
        run.setOnClickListener {
            if (state is VerifyState.Running) app.verifying.cancel() else start(state)
        }
    }

    private fun start(state: VerifyState) {
        val folder = intent.getStringExtra(FOLDER)
        if (folder != null) {
            app.verifying.start(File(folder).name) { ArtifactFolder.open(File(folder)) }
        } else if (state is VerifyState.Done) {
            app.verifying.start(state.name) { app.library.pushed(state.name) }
        } else if (state is VerifyState.Stopped) {
            app.verifying.start(state.name) { app.library.pushed(state.name) }
        }
    }

    private fun showRows(rows: List<Row>) {
        val parent = findViewById<LinearLayout>(R.id.rows)
        parent.rows(rows.size, R.layout.verdict)
        rows.forEachIndexed { index, row -> showRow(parent.getChildAt(index), row) }
    }

    private fun showRow(view: View, row: Row) {
        val verdict = row.verification.verdict
        val run = row.verification.run
        view.findViewById<TextView>(R.id.runtime).text = row.title
        val outcome = view.findViewById<TextView>(R.id.outcome)
        outcome.setText(
            if (verdict == null) R.string.did_not_run
            else if (verdict.passed) R.string.passed else R.string.failed
        )
        outcome.setTextColor(getColor(if (verdict?.passed == true) R.color.good else R.color.bad))
        val why = view.findViewById<TextView>(R.id.why)
        why.text = (verdict?.reasons ?: listOfNotNull(run.error)).joinToString("\n")
        why.visibility = if (why.text.isEmpty()) View.GONE else View.VISIBLE
        val cases = view.findViewById<CasesView>(R.id.cases)
        cases.visibility = if (verdict == null) View.GONE else View.VISIBLE
        verdict?.let {
            cases.show(it.caseSqnr)
            cases.contentDescription = getString(R.string.bars_description)
        }
        val entries = run.latency?.entries.orEmpty().map { (name, latency) -> name to times(latency) }
        view
            .findViewById<FactsView>(R.id.facts)
            .show(
                listOfNotNull(
                    verdict?.let {
                        getString(R.string.fact_sqnr) to
                            getString(R.string.fact_sqnr_value, number(it.worstSqnr), it.worstCase)
                    },
                    verdict?.top1Agreement?.let {
                        getString(R.string.fact_top1) to sameClass(verdict, it)
                    },
                    run.latency?.let { getString(R.string.label_inference) to times(it) },
                    *entries.toTypedArray(),
                    run.peakMemoryBytes?.let {
                        getString(R.string.fact_memory) to Formatter.formatShortFileSize(this, it)
                    },
                    run.thermalState?.let { getString(R.string.fact_heat) to it },
                )
            )
    }

    private fun sameClass(verdict: Verdict, share: Double): String {
        val total = verdict.objects ?: verdict.cases
        val words =
            if (verdict.objects == null) R.string.fact_top1_value else R.string.fact_top1_objects
        return getString(words, (share * total).roundToInt(), total)
    }

    private fun times(latency: Latency) =
        getString(R.string.times, number(latency.inference.p50), number(latency.inference.p90))

    private fun number(value: Double): String =
        if (value.isInfinite()) "∞" else String.format(Locale.getDefault(), "%.1f", value)

    companion object {
        fun intent(context: Context, artifact: ArtifactFolder): Intent =
            Intent(context, VerifyActivity::class.java).putExtra(FOLDER, artifact.folder.path)
    }
}
