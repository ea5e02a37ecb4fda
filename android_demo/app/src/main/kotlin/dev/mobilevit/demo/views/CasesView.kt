package dev.mobilevit.demo.views

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import dev.mobilevit.demo.R

private const val MAX_DECIBELS = 120.0

/** A column for each reference case, as high as its SQNR, up to 120 dB; the worst stands out. */
class CasesView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private var decibels = emptyList<Double>()

    fun show(decibels: List<Double>) {
        this.decibels = decibels
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        if (decibels.isEmpty()) return
        val worst =
            decibels.indices.minByOrNull {
                if (decibels[it].isNaN()) Double.NEGATIVE_INFINITY else decibels[it]
            }
        val step = width.toFloat() / decibels.size
        val bar = minOf(step * 0.6f, 12 * resources.displayMetrics.density)
        decibels.forEachIndexed { index, value ->
            val share = if (value.isNaN()) 0.0 else (value / MAX_DECIBELS).coerceIn(0.0, 1.0)
            val top = height - maxOf(bar, (share * height).toFloat())
            val left = step * index + (step - bar) / 2
            paint.color = context.getColor(if (index == worst) R.color.accent else R.color.outline)
            canvas.drawRoundRect(left, top, left + bar, height.toFloat(), bar / 2, bar / 2, paint)
        }
    }
}
