package dev.mobilevit.core

import java.io.File
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** The code of README.md, word for word: a test of the SDK compares them. */
class ReadmeTest(@param:TempDir private val out: File) {
    private val folder = Tiny.write(File(out, "tiny"))
    private val engine = Tiny.TinyEngine()
    private val width = 4
    private val height = 3
    private val argb = IntArray(12) { -1 }
    private val now = "2026-11-29T12:00:00Z"

    @Test
    fun `the code in the README does what it says`() {
        val artifact = ArtifactFolder.open(folder)
        val classifier = Classifier(artifact, engine)
        val picture = Picture.ofArgb(width, height, argb) // from Bitmap.getPixels
        val answer = classifier.classify(picture)
        println("${answer.top[0].label} ${answer.top[0].probability}, ${answer.inferenceMs} ms")

        val reference = artifact.reference()
        val verification = verify(artifact, reference, engine)
        val run = verification.run.copy(latency = classifier.measure(picture))
        val device = Device("Pixel 8", "Android 15", "Tensor G3")
        val report =
            DeviceReport(App("my app", "1.0"), device, artifact, reference, now, listOf(run))
        File(out, report.fileName).writeBytes(report.toBytes())
        assertTrue(File(out, "tiny.device-report.json").length() > 500)
    }
}
