package dev.mobilevit.core

import com.sun.management.ThreadMXBean
import java.lang.management.ManagementFactory
import java.nio.ByteBuffer
import kotlin.math.abs
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

class ResizerTest {
    @Test
    fun `the golden cases give the SDK's pixels to the byte`() {
        val file =
            Safetensors.read(golden("preprocessing.safetensors").readBytes(), "the golden file")
        val cases = parseJsonObjects(file.metadata.getValue("cases"), "cases")
        val different = cases.mapNotNull { case ->
            val name = case.text("name")
            val stored = picture(file, "$name/decoded")
            val expected = picture(file, "$name/expected")
            val upright = Orientation.upright(stored, case.integer("orientation", 1L..8L).toInt())
            val resizing =
                Manifest.resizing(
                    case.objectAt("resizing"),
                    listOf(expected.height.toLong(), expected.width.toLong()),
                )
            val found = Resizer(resizing, upright.width, upright.height).resize(upright)
            val worst =
                found.rgb.indices.maxOf {
                    abs((found.rgb[it].toInt() and 255) - (expected.rgb[it].toInt() and 255))
                }
            if (worst == 0) null else "$name by up to $worst"
        }
        assertEquals(emptyList<String>(), different)
        assertTrue(cases.size >= 40) { "only ${cases.size} cases" }
    }

    @Test
    fun `a frame is resized without allocating`() {
        val resizer = Resizer(Resizing(false, 288, Filter.BICUBIC, 256, 256), 640, 480)
        val frame = noise(640, 480)
        val into = Picture(256, 256)
        resizer.resize(frame, into)
        val threads = ManagementFactory.getThreadMXBean() as ThreadMXBean
        val before = threads.currentThreadAllocatedBytes
        repeat(20) { resizer.resize(frame, into) }
        val allocated = threads.currentThreadAllocatedBytes - before
        assertTrue(allocated < 20_000) { "$allocated bytes for 20 frames" }
    }

    @Test
    fun `a picture of the wanted size stays as it is`() {
        val picture = noise(24, 18)
        for (filter in Filter.entries) {
            val same = Resizer(Resizing(false, 18, filter, 18, 24), 24, 18).resize(picture)
            assertTrue(picture.rgb.contentEquals(same.rgb))
        }
    }

    @Test
    fun `a strip takes the memory of its middle`() {
        val strip = Picture(200_000, 3, ByteArray(600_000 * 3) { 7 })
        val found =
            Resizer(Resizing(false, 256, Filter.BICUBIC, 224, 224), 200_000, 3).resize(strip)
        assertTrue(found.rgb.all { it.toInt() == 7 })
    }

    @Test
    fun `a picture of another size is refused`() {
        val resizer = Resizer(Resizing(true, 8, Filter.BILINEAR, 8, 8), 20, 10)
        assertThrows<IllegalArgumentException> { resizer.resize(Picture(10, 20)) }
        assertThrows<IllegalArgumentException> { resizer.resize(Picture(20, 10), Picture(8, 9)) }
        assertThrows<IllegalArgumentException> {
            Resizer(Resizing(true, 8, Filter.BILINEAR, 8, 8), 0, 10)
        }
    }

    private fun picture(file: Safetensors, name: String): Picture {
        val tensor = file.find(name, "U8", 3)
        return Picture(tensor.shape[1].toInt(), tensor.shape[0].toInt(), file.bytes(tensor))
    }

    private fun noise(width: Int, height: Int): Picture =
        Picture(width, height).also { kotlin.random.Random(1).nextBytes(it.rgb) }
}

class PictureTest {
    @Test
    fun `transparent pixels are laid over white`() {
        val picture =
            Picture.ofArgb(
                2,
                2,
                intArrayOf(0x00123456, 0xff010203.toInt(), 0x80ff0000.toInt(), 0x33000000),
            )
        assertEquals(
            listOf(255, 255, 255, 1, 2, 3, 255, 127, 127, 204, 204, 204),
            picture.rgb.map { it.toInt() and 255 },
        )
    }

    @Test
    fun `a camera's rotation is the EXIF orientation that turns as far`() {
        val stored = Picture(2, 1, byteArrayOf(1, 1, 1, 2, 2, 2))
        val turned =
            Orientation.upright(
                stored,
                Orientation.ofRotation(90),
            ) // clockwise: what was left is on top
        assertEquals(
            listOf(1, 2, listOf(1, 2)),
            listOf(
                turned.width,
                turned.height,
                listOf(turned.rgb[0].toInt(), turned.rgb[3].toInt()),
            ),
        )
        assertEquals(listOf(1, 3, 8), listOf(0, 180, 270).map(Orientation::ofRotation))
        assertThrows<IllegalArgumentException> { Orientation.ofRotation(45) }
    }

    @Test
    fun `every orientation and its inverse give the picture back`() {
        val stored = Picture(3, 2, ByteArray(18) { it.toByte() })
        for ((orientation, inverse) in
            mapOf(1 to 1, 2 to 2, 3 to 3, 4 to 4, 5 to 5, 6 to 8, 7 to 7, 8 to 6, 0 to 99)) {
            val back = Orientation.upright(Orientation.upright(stored, orientation), inverse)
            assertTrue(stored.rgb.contentEquals(back.rgb)) { "orientation $orientation" }
        }
        assertThrows<IllegalArgumentException> { Orientation.upright(stored, 6, Picture(3, 2)) }
    }

    @Test
    fun `a camera's planes with strides give the colors of BT 601`() {
        val width = 5
        val height = 3
        val random = kotlin.random.Random(3)
        // As cameras give them: rows are padded, but for the last; both chroma planes are one,
        // NV21.
        val luma = ByteArray(8 * 2 + 5).also(random::nextBytes)
        val chroma = ByteArray(7 + 6).also(random::nextBytes)
        val red = ByteBuffer.wrap(chroma, 0, 12).slice()
        val blue = ByteBuffer.wrap(chroma, 1, 12).slice()
        val into = Picture(width, height)
        yuvToRgb(Plane(ByteBuffer.wrap(luma), 8, 1), Plane(blue, 7, 2), Plane(red, 7, 2), into)
        for (y in 0 until height) for (x in 0 until width) {
            val light = luma[8 * y + x].toInt() and 255
            val cr = (chroma[7 * (y / 2) + x / 2 * 2].toInt() and 255) - 128
            val cb = (chroma[7 * (y / 2) + x / 2 * 2 + 1].toInt() and 255) - 128
            val expected =
                listOf(
                    light + 1.402 * cr,
                    light - 0.344136 * cb - 0.714136 * cr,
                    light + 1.772 * cb,
                )
            for (channel in 0..2) {
                val found = into.rgb[3 * (y * width + x) + channel].toInt() and 255
                assertEquals(expected[channel].coerceIn(0.0, 255.0), found.toDouble(), 0.51)
            }
        }
    }

    @Test
    fun `bytes that do not fit the sides are refused`() {
        assertThrows<IllegalArgumentException> { Picture(2, 2, ByteArray(11)) }
        assertThrows<IllegalArgumentException> { Picture(0, 2) }
        assertThrows<IllegalArgumentException> { Picture(2, 2).setArgb(IntArray(3)) }
    }
}
