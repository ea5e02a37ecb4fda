package dev.mobilevit.demo.views

import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.RectF
import android.graphics.Typeface
import dev.mobilevit.core.Detection
import kotlin.math.roundToInt

private const val GOLDEN = 137.508f // degrees: neighbors among the classes have hues far apart
private val DARK = Color.rgb(11, 13, 26)

/** The color of a class, light enough for dark text. */
internal fun colorOf(index: Int): Int =
    Color.HSVToColor(floatArrayOf(index * GOLDEN % 360, 0.56f, 1f))

/** A label's lower left corner in pixels, above its box, and inside of [within] in any case. */
internal fun placeLabel(box: RectF, width: Float, height: Float, within: RectF): Pair<Float, Float> {
    val left = maxOf(within.left, minOf(box.left, within.right - width))
    val bottom = if (box.top - height >= within.top) box.top else box.top + height
    return left to minOf(bottom, within.bottom)
}

/** Draws boxes with their labels; [density] is how many pixels a point has. */
internal class BoxPainter(private val density: Float) {
    private val line =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            style = Paint.Style.STROKE
            strokeWidth = 2 * density
        }
    private val edge =
        Paint(line).apply {
            strokeWidth = 4 * density
            color = Color.argb(128, 11, 13, 26)
        }
    private val fill = Paint(Paint.ANTI_ALIAS_FLAG)
    private val text =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            typeface = Typeface.DEFAULT_BOLD
            textSize = 12 * density
            color = DARK
        }
    private val box = RectF()
    private val label = RectF()

    /** Over a picture that fills [picture] of the canvas. */
    fun draw(canvas: Canvas, found: Detection, picture: RectF) {
        box.set(
            picture.left + found.left * picture.width(),
            picture.top + found.top * picture.height(),
            picture.left + found.right * picture.width(),
            picture.top + found.bottom * picture.height(),
        )
        val radius = 5 * density
        line.color = colorOf(found.index)
        canvas.drawRoundRect(box, radius, radius, edge)
        canvas.drawRoundRect(box, radius, radius, line)
        val words = "${found.label} ${(100 * found.probability).roundToInt()}%"
        val pad = 5 * density
        val height = text.descent() - text.ascent() + pad / 2
        val width = text.measureText(words) + 2 * pad
        val (left, bottom) = placeLabel(box, width, height, picture)
        label.set(left, bottom - height, left + width, bottom)
        fill.color = line.color
        canvas.drawRoundRect(label, radius, radius, fill)
        canvas.drawText(words, left + pad, bottom - pad / 4 - text.descent(), text)
    }
}
