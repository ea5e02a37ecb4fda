package dev.mobilevit.core

import java.nio.ByteBuffer

/** One plane of a camera's YUV_420_888 frame, in bytes. */
class Plane(val buffer: ByteBuffer, val rowStride: Int, val pixelStride: Int)

/**
 * Writes a camera's frame to [into], of the frame's size: full-range BT.601, as JPEG has it. [u]
 * and [v] have one value for 2 x 2 pixels. The buffers' positions stay as they are.
 */
fun yuvToRgb(y: Plane, u: Plane, v: Plane, into: Picture) {
    val rgb = into.rgb
    var at = 0
    for (row in 0 until into.height) {
        val luma = row * y.rowStride
        val blue = row / 2 * u.rowStride
        val red = row / 2 * v.rowStride
        for (column in 0 until into.width) {
            val light =
                ((y.buffer.get(luma + column * y.pixelStride).toInt() and 255) shl 16) + HALF
            val cb = (u.buffer.get(blue + column / 2 * u.pixelStride).toInt() and 255) - 128
            val cr = (v.buffer.get(red + column / 2 * v.pixelStride).toInt() and 255) - 128
            rgb[at++] = clamp(light + 91_881 * cr shr 16) // 1.402 * 2^16
            rgb[at++] = clamp(light - 22_554 * cb - 46_802 * cr shr 16) // 0.344136, 0.714136
            rgb[at++] = clamp(light + 116_130 * cb shr 16) // 1.772
        }
    }
}

private const val HALF = 1 shl 15
