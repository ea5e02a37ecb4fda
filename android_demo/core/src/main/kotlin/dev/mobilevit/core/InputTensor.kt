package dev.mobilevit.core

/** Scales bytes to the input's range and puts them in its layout; [into] holds `values` floats. */
fun AppInput.fill(picture: Picture, into: FloatArray) {
    require(picture.width == width && picture.height == height && into.size == values) {
        "an input of $width x $height got ${picture.width} x ${picture.height} and ${into.size} floats"
    }
    val rgb = picture.rgb
    if (layout == Layout.NHWC) {
        for (at in rgb.indices) into[at] = scaled[rgb[at].toInt() and 255]
        return
    }
    val plane = width * height
    for (channel in 0..2) {
        for (pixel in 0 until plane) {
            into[channel * plane + pixel] = scaled[rgb[3 * pixel + channel].toInt() and 255]
        }
    }
}
