package dev.mobilevit.demo.views

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.LayoutInflater
import android.view.View
import android.widget.LinearLayout
import android.widget.TextView
import dev.mobilevit.core.Score
import dev.mobilevit.demo.R
import java.text.NumberFormat

/** A horizontal bar, filled to [fraction], 0 to 1. */
class BarView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val track =
        Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.track) }
    private val fill =
        Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.accent) }

    /** Of what is filled; null for the app's own. */
    var color: Int? = null
        set(new) {
            field = new
            fill.color = new ?: context.getColor(R.color.accent)
            invalidate()
        }

    var fraction = 0f
        set(new) {
            field = new.coerceIn(0f, 1f)
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        val radius = height / 2f
        canvas.drawRoundRect(0f, 0f, width.toFloat(), height.toFloat(), radius, radius, track)
        if (fraction == 0f) return
        val end = maxOf(width * fraction, height.toFloat())
        val left = if (layoutDirection == LAYOUT_DIRECTION_RTL) width - end else 0f
        canvas.drawRoundRect(left, 0f, left + end, height.toFloat(), radius, radius, fill)
    }
}

/** The best classes, or what a detector finds, a bar each: of a detector in the color of its box. */
class ScoresView(context: Context, attributes: AttributeSet?) : LinearLayout(context, attributes) {
    private val percent =
        NumberFormat.getNumberInstance().apply {
            minimumFractionDigits = 1
            maximumFractionDigits = 1
        }

    fun show(scores: List<Score>, areBoxes: Boolean = false) {
        rows(scores.size, R.layout.score)
        scores.forEachIndexed { index, score ->
            val row = getChildAt(index)
            val share = percent.format(100.0 * score.probability)
            row.findViewById<TextView>(R.id.label).text = score.label
            row.findViewById<TextView>(R.id.percent).text =
                context.getString(R.string.percent, share)
            val bar = row.findViewById<BarView>(R.id.bar)
            bar.fraction = score.probability
            bar.color = if (areBoxes) colorOf(score.index) else null
            row.contentDescription =
                context.getString(R.string.score_description, score.label, share)
        }
    }
}

/** Lines of a name and a value. */
class FactsView(context: Context, attributes: AttributeSet?) : LinearLayout(context, attributes) {
    fun show(facts: List<Pair<String, String>>) {
        rows(facts.size, R.layout.fact)
        facts.forEachIndexed { index, (name, value) ->
            val row = getChildAt(index)
            row.findViewById<TextView>(R.id.fact).text = name
            row.findViewById<TextView>(R.id.value).text = value
        }
    }
}

/** [name], which may go on in the next line after a hyphen rather than anywhere. */
internal fun breakable(name: String) = name.replace("-", "-\u200B")

/** Brings the children to [count] views of [layout], keeping those there are. */
internal fun LinearLayout.rows(count: Int, layout: Int) {
    while (childCount > count) removeViewAt(childCount - 1)
    while (childCount < count) LayoutInflater.from(context).inflate(layout, this)
}
