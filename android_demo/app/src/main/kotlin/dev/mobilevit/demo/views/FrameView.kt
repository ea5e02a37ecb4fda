package dev.mobilevit.demo.views

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View
import dev.mobilevit.core.Detection
import dev.mobilevit.core.Resizing
import dev.mobilevit.demo.R

/**
 * The whole picture, turned upright; what the network does not see is dimmed. Over it a detector's
 * boxes.
 */
class FrameView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val smooth = Paint(Paint.FILTER_BITMAP_FLAG)
    private val scrim = Paint().apply { color = context.getColor(R.color.scrim) }
    private val line =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            style = Paint.Style.STROKE
            strokeWidth = 2 * resources.displayMetrics.density
            color = Color.WHITE
        }
    private val matrix = Matrix()
    private val whole = RectF()
    private val seen = RectF()
    private val boxes = BoxPainter(resources.displayMetrics.density)
    private var bitmap: Bitmap? = null
    private var degrees = 0

    /** What is found in the picture: edges are shares of the upright one. */
    var objects = emptyList<Detection>()
        set(new) {
            if (field == new) return
            field = new
            invalidate()
        }

    /** Of the file in use: gives the frame that is drawn. */
    var resizing: Resizing? = null
        set(new) {
            field = new
            invalidate()
        }

    /**
     * Shows [bitmap], turned clockwise by [degrees]; null shows nothing. Its pixels may change
     * until the next call.
     */
    fun show(bitmap: Bitmap?, degrees: Int = 0) {
        this.bitmap = bitmap
        this.degrees = degrees
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val bitmap = bitmap ?: return
        val turned = degrees % 180 != 0
        val pictureWidth = (if (turned) bitmap.height else bitmap.width).toFloat()
        val pictureHeight = (if (turned) bitmap.width else bitmap.height).toFloat()
        val scale = minOf(width / pictureWidth, height / pictureHeight)
        matrix.setTranslate(-bitmap.width / 2f, -bitmap.height / 2f)
        matrix.postRotate(degrees.toFloat())
        matrix.postScale(scale, scale)
        matrix.postTranslate(width / 2f, height / 2f)
        canvas.drawBitmap(bitmap, matrix, smooth)
        whole.set(0f, 0f, pictureWidth * scale, pictureHeight * scale)
        whole.offset((width - whole.width()) / 2, (height - whole.height()) / 2)
        resizing?.let { drawFrame(canvas, it, pictureWidth, pictureHeight, scale) }
        objects.asReversed().forEach { boxes.draw(canvas, it, whole) } // the surest lies on top
    }

    private fun drawFrame(
        canvas: Canvas,
        resizing: Resizing,
        pictureWidth: Float,
        pictureHeight: Float,
        scale: Float,
    ) {
        val (seenWidth, seenHeight) = seenSize(resizing, pictureWidth, pictureHeight)
        seen.set(0f, 0f, seenWidth * scale, seenHeight * scale)
        seen.offset((width - seen.width()) / 2, (height - seen.height()) / 2)
        canvas.save()
        canvas.clipOutRect(seen)
        canvas.drawRect(whole, scrim)
        canvas.restore()
        seen.inset(line.strokeWidth / 2, line.strokeWidth / 2)
        canvas.drawRect(seen, line)
    }
}

/** How much of a picture's middle the crop keeps: width and height in the picture's own pixels. */
internal fun seenSize(resizing: Resizing, width: Float, height: Float): Pair<Float, Float> {
    if (resizing.squash) return width to height
    // Where the crop is larger than the resized picture, that is resized until the crop fits.
    val scale =
        maxOf(
            resizing.shorterSide / minOf(width, height),
            resizing.width / width,
            resizing.height / height,
        )
    return resizing.width / scale to resizing.height / scale
}
