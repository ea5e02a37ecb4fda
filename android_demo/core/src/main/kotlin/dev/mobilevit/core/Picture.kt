package dev.mobilevit.core

/**
 * A picture: red, green, blue of each pixel, row by row, in [rgb], 3 * [width] * [height] bytes.
 */
class Picture(val width: Int, val height: Int, val rgb: ByteArray = ByteArray(3 * width * height)) {
    init {
        require(width > 0 && height > 0 && rgb.size.toLong() == 3L * width * height) {
            "${rgb.size} bytes are not an RGB picture of $width x $height"
        }
    }

    /**
     * Takes pixels as `Bitmap.getPixels` gives them, not premultiplied; transparent parts are laid
     * over white.
     */
    fun setArgb(argb: IntArray) {
        require(argb.size == width * height) {
            "${argb.size} pixels for a picture of $width x $height"
        }
        setRows(argb, 0, height)
    }

    /** The same for [rows] rows from [top] on, whose pixels stand first in [argb]. */
    fun setRows(argb: IntArray, top: Int, rows: Int) {
        require(top >= 0 && rows in 0..height - top && argb.size >= width * rows) {
            "${argb.size} pixels for $rows rows from row $top of a picture of $width x $height"
        }
        var at = 3 * width * top
        for (index in 0 until width * rows) {
            val pixel = argb[index]
            val alpha = pixel ushr 24
            rgb[at++] = overWhite(pixel shr 16 and 255, alpha).toByte()
            rgb[at++] = overWhite(pixel shr 8 and 255, alpha).toByte()
            rgb[at++] = overWhite(pixel and 255, alpha).toByte()
        }
    }

    companion object {
        fun ofArgb(width: Int, height: Int, argb: IntArray): Picture =
            Picture(width, height).apply { setArgb(argb) }

        /** (value * alpha + 255 * (255 - alpha)) / 255, rounded. */
        private fun overWhite(value: Int, alpha: Int): Int {
            if (alpha == 255) return value
            val sum = value * alpha + 255 * (255 - alpha) + 128
            return (sum + (sum shr 8)) shr 8
        }
    }
}

/** What EXIF calls orientation, 1 to 8: how stored pixels are turned to be upright. */
object Orientation {
    /**
     * [stored] upright; itself where nothing is to be turned. Any value but 2 to 8 turns nothing.
     */
    fun upright(stored: Picture, orientation: Int): Picture {
        if (orientation !in 2..8) return stored
        val turned =
            if (swapsSides(orientation)) Picture(stored.height, stored.width)
            else Picture(stored.width, stored.height)
        upright(stored, orientation, turned)
        return turned
    }

    /** The same into another picture, which has the turned size. */
    fun upright(stored: Picture, orientation: Int, into: Picture) {
        val width = stored.width
        val height = stored.height
        val swaps = swapsSides(orientation)
        require(
            into.width == (if (swaps) height else width) &&
                into.height == (if (swaps) width else height)
        ) {
            "$width x $height turned by orientation $orientation is not ${into.width} x ${into.height}"
        }
        // Where the stored pixel of the upright corner lies, and how far a step to the right or
        // down goes.
        val right = orientation in setOf(2, 3, 7, 8)
        val bottom = orientation in setOf(3, 4, 6, 7)
        val horizontal = if (right) -1 else 1
        val vertical = if (bottom) -width else width
        val first = (if (right) width - 1 else 0) + (if (bottom) (height - 1) * width else 0)
        val stepX = if (swaps) vertical else horizontal
        val stepY = if (swaps) horizontal else vertical
        var at = 0
        for (y in 0 until into.height) {
            var from = 3 * (first + y * stepY)
            for (x in 0 until into.width) {
                into.rgb[at] = stored.rgb[from]
                into.rgb[at + 1] = stored.rgb[from + 1]
                into.rgb[at + 2] = stored.rgb[from + 2]
                at += 3
                from += 3 * stepX
            }
        }
    }

    /** Whether the turned picture is as wide as the stored one is high. */
    fun swapsSides(orientation: Int): Boolean = orientation in 5..8

    /**
     * The orientation of a camera's frame that is to be turned clockwise by 0, 90, 180 or 270
     * [degrees].
     */
    fun ofRotation(degrees: Int): Int =
        when (degrees) {
            0 -> 1
            90 -> 6
            180 -> 3
            270 -> 8
            else ->
                throw IllegalArgumentException(
                    "a camera is turned by 0, 90, 180 or 270 degrees, not $degrees"
                )
        }
}
