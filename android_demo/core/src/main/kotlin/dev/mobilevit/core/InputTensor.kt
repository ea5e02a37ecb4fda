package dev.mobilevit.core

/** How many values one image has for this input. */
val AppInput.values: Int get() = 3 * height * width

/** Scales bytes to the input's range and puts them in its layout; [into] holds [values] floats. */
fun AppInput.fill(picture: Picture, into: FloatArray) { TODO() }
