package dev.mobilevit.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.net.Uri
import dev.mobilevit.core.Orientation
import dev.mobilevit.core.Picture
import java.io.IOException

// A larger photograph is read at half its size, or less, so that it fits in memory. Most phones
// take 12 megapixels.
private const val MAX_PIXELS = 12_600_000L
private const val SCREEN_PIXELS = 1_500_000L
private const val STRIP = 64 // rows

/**
 * Reads a photograph and turns it upright. Throws [IOException] with one line where it is not one.
 * Not on the main thread.
 */
internal fun readPhoto(resolver: ContentResolver, uri: Uri): Photo {
    val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    open(resolver, uri) { BitmapFactory.decodeStream(it, null, bounds) }
    if (bounds.outWidth <= 0 || bounds.outHeight <= 0)
        throw IOException("This is not a picture that Android can read.")
    val orientation =
        try {
            open(resolver, uri) {
                ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1)
            }
        } catch (_: IOException) {
            1 // Formats without EXIF.
        } catch (_: RuntimeException) {
            1 // Damaged EXIF, to which older systems have answers of many kinds.
        }
    fun upright(pixels: Long): Picture {
        var step = 1
        while (bounds.outWidth.toLong() * bounds.outHeight / (step * step) > pixels) step *= 2
        val options =
            BitmapFactory.Options().apply {
                inSampleSize = step
                inPremultiplied = false
            }
        val bitmap =
            open(resolver, uri) { BitmapFactory.decodeStream(it, null, options) }
                ?: throw IOException("This picture is damaged.")
        return Orientation.upright(bitmap.toPicture(), orientation)
    }
    return try {
        val picture = upright(MAX_PIXELS)
        Photo(picture, upright(SCREEN_PIXELS).toBitmap())
    } catch (_: OutOfMemoryError) {
        throw IOException("This picture is too large for the memory of this phone.")
    }
}

private fun Bitmap.toPicture(): Picture {
    val picture = Picture(width, height)
    val pixels = IntArray(width * minOf(STRIP, height)) // all pixels at once would be 48 MB
    for (top in 0 until height step STRIP) {
        val rows = minOf(STRIP, height - top)
        getPixels(pixels, 0, width, 0, top, width, rows)
        picture.setRows(pixels, top, rows)
    }
    recycle()
    return picture
}

internal fun Picture.toBitmap(): Bitmap =
    Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888).also {
        show(it, IntArray(width * height))
    }

/** Writes the picture to a bitmap of its size; [argb] is room for its pixels. */
internal fun Picture.show(bitmap: Bitmap, argb: IntArray) {
    for (index in 0 until width * height) {
        val at = 3 * index
        argb[index] =
            (0xFF shl 24) or
                ((rgb[at].toInt() and 0xFF) shl 16) or
                ((rgb[at + 1].toInt() and 0xFF) shl 8) or
                (rgb[at + 2].toInt() and 0xFF)
    }
    bitmap.setPixels(argb, 0, width, 0, 0, width, height)
}

/**
 * Only what another app offers: a path on this phone, which `file:` gives, is not to be read in its
 * name.
 */
internal fun <T> open(resolver: ContentResolver, uri: Uri, read: (java.io.InputStream) -> T): T {
    if (uri.scheme != ContentResolver.SCHEME_CONTENT)
        throw IOException("Only files that another app shares can be opened.")
    val stream =
        try {
            resolver.openInputStream(uri)
        } catch (_: SecurityException) {
            throw IOException("The other app does not let this one read the file.")
        } catch (_: RuntimeException) { // What its provider throws comes through.
            throw IOException("The other app fails to give the file.")
        }
    return (stream ?: throw IOException("The file is not there any more.")).use(read)
}
