package dev.mobilevit.core

import java.io.ByteArrayInputStream
import java.io.File
import javax.imageio.ImageIO
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.condition.EnabledIfSystemProperty
import org.junit.jupiter.api.io.TempDir

/**
 * Real photographs and a real artifact through everything but the phone. The SDK's test of that
 * name prepares the files, passes their paths, and compares what this leaves in the folder
 * `mobilevit.out` with its own answers.
 */
@EnabledIfSystemProperty(named = "mobilevit.out", matches = ".+")
class EndToEndTest(@param:TempDir private val storage: File) {
    private val out = path("out")
    private val runtimes = mapOf("tflite" to "litert", "executorch" to "executorch")

    @Test
    fun `a photograph becomes the SDK's answer and the phone file is proven`() {
        val artifacts =
            System.getProperty("mobilevit.artifacts").split(File.pathSeparator).map {
                shared(File(it))
            }
        for (artifact in artifacts) {
            engine(artifact, artifact.file).use { engine ->
                val classifier = Classifier(artifact, engine)
                val answers =
                    photographs().mapValues { (_, picture) -> classifier.classify(picture) }
                val verification = verify(artifact, artifact.reference(), engine)
                val latency =
                    classifier.measure(photographs().values.first(), warmUp = 2, samples = 5)
                val report = report(artifact, verification.run.copy(latency = latency))
                File(out, report.fileName).writeBytes(report.toBytes())
                File(out, "${artifact.name}.json")
                    .writeText(writeJson(summary(answers, verification.verdict!!)))
            }
        }
        assertTrue(artifacts.size >= 2)
    }

    @Test
    fun `a file that the runtime refuses becomes a report with the reason`() {
        for (folder in System.getProperty("mobilevit.artifacts").split(File.pathSeparator)) {
            val artifact = shared(File(folder))
            val damaged =
                File(storage, "damaged").apply {
                    writeBytes(artifact.file.readBytes().copyOf(1000))
                }
            val error = assertThrows<EngineException> { engine(artifact, damaged) }
            val run =
                failedRun(
                    runtimes.getValue(artifact.manifest.format),
                    null,
                    Accelerator.CPU,
                    null,
                    error.message!!,
                )
            assertTrue(run.error!!.length > 20)
            File(out, "refused-${artifact.name}.device-report.json")
                .writeBytes(report(artifact, run).toBytes())
        }
    }

    @Test
    fun `every kind of artifact that the SDK writes is read, or refused with the reason`() {
        val found = path("kinds").listFiles()!!.associate { it.name to kind(it) }
        File(out, "kinds.json").writeText(writeJson(found))
    }

    private fun kind(folder: File): Map<String, Any?> {
        try {
            val artifact = ArtifactFolder.open(folder)
            val (manifest, reference) = artifact.manifest to artifact.reference()
            return mapOf(
                "output" to manifest.output,
                "labels" to manifest.labels,
                "rejections" to manifest.rejections,
                "layout" to manifest.input.layout.name,
                "resizing" to
                    manifest.input.resizing.run {
                        listOf(squash, shorterSide, filter.name, height, width)
                    },
                "edge" to reference.cases.map { it.edge },
                "first_pixel" to reference.image(0).rgb.take(3).map { it.toInt() and 255 },
                "last_answer" to reference.answer(reference.cases.lastIndex).map { it.toDouble() },
            )
        } catch (error: ArtifactException) {
            return mapOf("refused" to error.message)
        }
    }

    /** The artifact as it comes to a phone: zipped, shared to the app, and unpacked. */
    private fun shared(folder: File): ArtifactFolder {
        val files = folder.listFiles()!!.associate { "${folder.name}/${it.name}" to it.readBytes() }
        return ArtifactFolder.unzip(ByteArrayInputStream(zipOf(files)), storage, "unnamed")
    }

    private fun engine(artifact: ArtifactFolder, file: File): Engine =
        DesktopEngine(
            path("python"),
            path("engine"),
            runtimes.getValue(artifact.manifest.format),
            file,
            artifact.manifest.entries.mapNotNull { it.name },
        )

    /** Upright, by the name of the file, which ends with the orientation as "china-6.png". */
    private fun photographs(): Map<String, Picture> =
        path("photographs").listFiles()!!.sorted().associate { file ->
            val image = ImageIO.read(file)
            val argb = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
            val orientation = file.nameWithoutExtension.substringAfterLast('-').toInt()
            file.name to
                Orientation.upright(Picture.ofArgb(image.width, image.height, argb), orientation)
        }

    private fun report(artifact: ArtifactFolder, run: DeviceRun) =
        DeviceReport(
            App("mobilevit-android", "0.1.0"),
            Device("JVM", System.getProperty("os.name"), System.getProperty("os.arch")),
            artifact,
            artifact.reference(),
            "2026-11-29T12:00:00Z",
            listOf(run),
        )

    private fun summary(answers: Map<String, Classification>, verdict: Verdict): Map<String, Any?> =
        mapOf(
            "photographs" to
                answers.mapValues { (_, answer) ->
                    mapOf(
                        "top1" to answer.top[0].label,
                        "scores" to answer.scores.map { it.toDouble() },
                    )
                },
            "verdict" to
                mapOf(
                    "passed" to verdict.passed,
                    "cases" to verdict.cases,
                    "worst" to verdict.worstSqnr,
                    "median" to verdict.medianSqnr,
                    "max_abs_diff" to verdict.maxAbsDiff,
                    "top1_agreement" to verdict.top1Agreement,
                ),
        )

    private fun path(name: String): File = File(System.getProperty("mobilevit.$name"))
}
