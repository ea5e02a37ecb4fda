package dev.mobilevit.core

/** A picture: red, green, blue of each pixel, row by row, in [rgb], 3 * [width] * [height] bytes. */
class Picture(val width: Int, val height: Int, val rgb: ByteArray = ByteArray(3 * width * height)) {
    /** Takes pixels as `Bitmap.getPixels` gives them, not premultiplied; transparent parts are laid over white. */
    fun setArgb(argb: IntArray) { TODO() }

    companion object {
        fun ofArgb(width: Int, height: Int, argb: IntArray): Picture = TODO()
    }
}

/** What EXIF calls orientation, 1 to 8: how stored pixels are turned to be upright. */
object Orientation {
    /** [stored] upright; itself where nothing is to be turned. Any value but 2 to 8 turns nothing. */
    fun upright(stored: Picture, orientation: Int): Picture = TODO()

    /** The same into a picture of the turned size. */
    fun upright(stored: Picture, orientation: Int, into: Picture) { TODO() }

    /** The orientation of a camera's frame that is to be turned clockwise by 0, 90, 180 or 270 [degrees]. */
    fun ofRotation(degrees: Int): Int = TODO()
}
