package dev.mobilevit.core

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min

/** By how far a filter reaches at full size, in pixels. */
enum class Filter(internal val support: Double) {
    BILINEAR(1.0),
    BICUBIC(2.0);

    internal fun weight(distance: Double): Double {
        val x = abs(distance)
        return when {
            this == BILINEAR -> max(0.0, 1 - x)
            x < 1 -> (1.5 * x - 2.5) * x * x + 1 // Keys' cubic with a = -0.5
            x < 2 -> -0.5 * (((x - 5) * x + 8) * x - 4)
            else -> 0.0
        }
    }
}

/**
 * Resizes and crops pictures of one size as the SDK does, which is as Pillow does: made once, used
 * for every frame without allocating. Only what the crop shows is computed. Not for several threads
 * at once.
 */
class Resizer(val resizing: Resizing, val sourceWidth: Int, val sourceHeight: Int) {
    private val across: Axis
    private val down: Axis
    private val firstRow: Int // of the source that the crop needs
    private val between: ByteArray // rows of the crop's width and the source's height

    init {
        require(sourceWidth > 0 && sourceHeight > 0) { "a picture of $sourceWidth x $sourceHeight" }
        // Of a strip only the middle counts: the rest would take gigabytes and be cropped away.
        val longest = min(16L * min(sourceWidth, sourceHeight), Int.MAX_VALUE.toLong()).toInt()
        val width = if (resizing.squash) sourceWidth else min(sourceWidth, longest)
        val height = if (resizing.squash) sourceHeight else min(sourceHeight, longest)
        var newWidth = resizing.width
        var newHeight = resizing.height
        if (!resizing.squash) {
            val scale =
                maxOf(
                    resizing.shorterSide.toDouble() / min(width, height),
                    resizing.width.toDouble() / width,
                    resizing.height.toDouble() / height,
                )
            newWidth = max(newWidth, Math.rint(width * scale).toInt()) // half to even
            newHeight = max(newHeight, Math.rint(height * scale).toInt())
        }
        across = Axis((sourceWidth - width) / 2, width, newWidth, resizing.width, resizing.filter)
        down =
            Axis((sourceHeight - height) / 2, height, newHeight, resizing.height, resizing.filter)
        firstRow = down.starts[0]
        between =
            ByteArray(3 * across.count * (down.starts.last() + down.lengths.last() - firstRow))
    }

    /**
     * Writes `resizing.width` x `resizing.height` pixels to [into]; [source] is upright and of this
     * resizer's size.
     */
    fun resize(source: Picture, into: Picture) {
        require(source.width == sourceWidth && source.height == sourceHeight) {
            "a resizer for $sourceWidth x $sourceHeight got ${source.width} x ${source.height}"
        }
        require(into.width == resizing.width && into.height == resizing.height) {
            "a resizer to ${resizing.width} x ${resizing.height} writes to ${into.width} x ${into.height}"
        }
        val stride = 3 * across.count
        for (row in 0 until between.size / stride) {
            val first = (firstRow + row) * sourceWidth
            for (place in 0 until across.count) {
                across.mix(
                    source.rgb,
                    3 * (first + across.starts[place]),
                    3,
                    place,
                    between,
                    row * stride + 3 * place,
                )
            }
        }
        for (place in 0 until down.count) {
            val first = (down.starts[place] - firstRow) * stride
            for (column in 0 until across.count) {
                down.mix(
                    between,
                    first + 3 * column,
                    stride,
                    place,
                    into.rgb,
                    place * stride + 3 * column,
                )
            }
        }
    }

    /**
     * What [share] of the input's width, which may lie beyond it, is of the source's: the way back.
     */
    internal fun across(share: Double): Float = across.inSource(share, sourceWidth)

    /** The same of the height. */
    internal fun down(share: Double): Float = down.inSource(share, sourceHeight)

    /** The same into a new picture. */
    fun resize(source: Picture): Picture =
        Picture(resizing.width, resizing.height).also { resize(source, it) }
}

/**
 * For each pixel along one side of the crop, which pixels of the source it is made of, and their
 * weights. Of the source's side, [oldSize] pixels from [offset] on are brought to [newSize], of
 * which the middle [count] are the crop.
 */
private class Axis(
    private val offset: Int,
    private val oldSize: Int,
    private val newSize: Int,
    val count: Int,
    filter: Filter,
) {
    val starts = IntArray(count)
    val lengths = IntArray(count)
    private val taps: Int
    private val weights: IntArray // [count, taps], in units of 2^-22

    init {
        val scale = oldSize.toDouble() / newSize
        val stretch = max(scale, 1.0) // of the filter: it widens with the reduction
        val reach = filter.support * stretch
        taps = 2 * ceil(reach).toInt() + 1
        weights = IntArray(Math.multiplyExact(count, taps))
        val exact = DoubleArray(taps)
        for (place in 0 until count) {
            val middle = ((newSize - count) / 2 + place + 0.5) * scale
            val start = max(0, (middle - reach + 0.5).toInt())
            val length = min(oldSize, (middle + reach + 0.5).toInt()) - start
            var sum = 0.0
            for (tap in 0 until length) {
                exact[tap] = filter.weight((start + tap - middle + 0.5) * (1 / stretch))
                sum += exact[tap]
            }
            for (tap in 0 until length) {
                val weight = exact[tap] / sum * (1 shl WEIGHT_BITS)
                weights[place * taps + tap] =
                    (if (weight < 0) weight - 0.5 else weight + 0.5).toInt()
            }
            starts[place] = offset + start
            lengths[place] = length
        }
    }

    /** Where [share] of the crop lies, as a share of the source's whole [side]: at most at its end. */
    fun inSource(share: Double, side: Int): Float {
        val resized = (newSize - count) / 2 + share * count
        return ((offset + resized * oldSize / newSize) / side).coerceIn(0.0, 1.0).toFloat()
    }

    /** One pixel of the result, from pixels that begin at [first] and lie [step] bytes apart. */
    fun mix(source: ByteArray, first: Int, step: Int, place: Int, into: ByteArray, at: Int) {
        var red = ROUNDING
        var green = ROUNDING
        var blue = ROUNDING
        var from = first
        for (tap in place * taps until place * taps + lengths[place]) {
            val weight = weights[tap]
            red += weight * (source[from].toInt() and 255)
            green += weight * (source[from + 1].toInt() and 255)
            blue += weight * (source[from + 2].toInt() and 255)
            from += step
        }
        into[at] = clamp(red shr WEIGHT_BITS)
        into[at + 1] = clamp(green shr WEIGHT_BITS)
        into[at + 2] = clamp(blue shr WEIGHT_BITS)
    }
}

private const val WEIGHT_BITS = 22
private const val ROUNDING = 1 shl WEIGHT_BITS - 1

internal fun clamp(value: Int): Byte =
    (if (value < 0) 0 else if (value > 255) 255 else value).toByte()
