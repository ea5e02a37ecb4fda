package dev.mobilevit.core

enum class Filter { BILINEAR, BICUBIC }

/**
 * Resizes and crops pictures of one size as the SDK does, which is as Pillow does: made once, used for every frame
 * without allocating. Not for several threads at once.
 */
class Resizer(val resizing: Resizing, val sourceWidth: Int, val sourceHeight: Int) {
    /** Writes `resizing.width` x `resizing.height` pixels to [into]; [source] is upright. */
    fun resize(source: Picture, into: Picture) { TODO() }

    fun resize(source: Picture): Picture = Picture(resizing.width, resizing.height).also { resize(source, it) }
}
