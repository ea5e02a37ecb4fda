package dev.mobilevit.core

import java.nio.ByteBuffer

/** One plane of a camera's YUV_420_888 frame, in bytes. */
class Plane(val buffer: ByteBuffer, val rowStride: Int, val pixelStride: Int)

/**
 * Writes a camera's frame to [into], of the frame's size: full-range BT.601, as JPEG has it. [u]
 * and [v] have one value for 2 x 2 pixels. The buffers' positions stay as they are.
 */
fun yuvToRgb(y: Plane, u: Plane, v: Plane, into: Picture) {
    val light = Row(y, into.width)
    val blue = Row(u, (into.width + 1) / 2)
    val red = Row(v, (into.width + 1) / 2)
    val rgb = into.rgb
    var at = 0
    for (row in 0 until into.height) {
        light.read(row)
        if (row % 2 == 0) {
            blue.read(row / 2)
            red.read(row / 2)
        }
        for (column in 0 until into.width) {
            val luma = (light[column] shl 16) + HALF
            val cb = blue[column / 2] - 128
            val cr = red[column / 2] - 128
            rgb[at++] = clamp(luma + 91_881 * cr shr 16) // 1.402 * 2^16
            rgb[at++] = clamp(luma - 22_554 * cb - 46_802 * cr shr 16) // 0.344136, 0.714136
            rgb[at++] = clamp(luma + 116_130 * cb shr 16) // 1.772
        }
    }
}

/** A row of a plane, copied at once: on Android that is much faster than value by value. */
private class Row(plane: Plane, columns: Int) {
    private val buffer = plane.buffer.duplicate()
    private val rowStride = plane.rowStride
    private val pixelStride = plane.pixelStride
    private val bytes = ByteArray((columns - 1) * pixelStride + 1) // the last row has no more

    fun read(row: Int) {
        buffer.position(row * rowStride)
        buffer.get(bytes)
    }

    operator fun get(column: Int): Int = bytes[column * pixelStride].toInt() and 255
}

private const val HALF = 1 shl 15
