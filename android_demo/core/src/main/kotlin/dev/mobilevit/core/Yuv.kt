package dev.mobilevit.core

import java.nio.ByteBuffer

/** One plane of a camera's YUV_420_888 frame. */
class Plane(val buffer: ByteBuffer, val rowStride: Int, val pixelStride: Int)

/** Full-range BT.601, as Android's cameras and JPEG have it, into [into], of the frame's size. */
fun yuvToRgb(y: Plane, u: Plane, v: Plane, into: Picture) { TODO() }
