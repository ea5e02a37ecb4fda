package dev.mobilevit.core

import java.io.File
import java.nio.ByteBuffer
import java.util.Base64
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

class DeviceReportTest(@param:TempDir private val parent: File) {
    private val artifact = ArtifactFolder.open(Tiny.write(File(parent, "tiny")))
    private val reference = artifact.reference()
    private val run = verify(artifact, reference, Tiny.TinyEngine()).run

    private fun report(runs: List<DeviceRun>, model: String = "Pixel 8") =
        DeviceReport(
            App("mobilevit-android", "0.1.0"),
            Device(model, "Android 15", null),
            artifact,
            reference,
            "2026-11-29T12:00:00Z",
            runs,
        )

    @Test
    fun `it ends with the hash of what stands before it`() {
        val bytes = report(listOf(run)).toBytes()
        val end = Regex("\"digest\":\"([0-9a-f]{64})\"}$").find(String(bytes))!!
        val head = bytes.copyOf(bytes.size - 66)
        assertEquals(newSha256().apply { update(head) }.hex(), end.groupValues[1])
        assertEquals("tiny.device-report.json", report(listOf(run)).fileName)
    }

    @Test
    fun `all members are there, in JSON whatever the phone calls itself`() {
        val latency = Latency(5, Samples(listOf(1e-5, 12345.6)), null)
        val failed = failedRun("litert", null, Accelerator.GPU, "fp16", "no\tGPU\u0007 here ")
        val runs =
            listOf(
                run.copy(latency = latency, peakMemoryBytes = 5_000_000_000, thermalState = "fair"),
                failed,
            )
        val document =
            parseJsonObject(
                ByteBuffer.wrap(report(runs, "\"P\\ix\nel\u0000\ud800 8\"").toBytes()),
                "the report",
            )
        assertEquals(
            setOf("schema", "app", "device", "artifact", "created", "runs", "digest"),
            document.keys,
        )
        assertEquals("\"P\\ix el \ufffd 8\"", document.objectAt("device").text("model"))
        assertEquals("no GPU here", document.objects("runs")[1].text("error"))
        val first = document.objects("runs")[0]
        assertEquals(
            12345.6,
            first.objectAt("latency").objectAt("inference_ms").numbers("samples")[1],
        )
        val answer = first.objects("cases")[2].objectAt("outputs").text("logits")
        assertArrayEquals(littleEndian(*reference.answer(2)), Base64.getDecoder().decode(answer))
        assertEquals(10, first.keys.size)
    }

    @Test
    fun `a report that contradicts itself is not made`() {
        val part = run.copy(cases = run.cases.take(2))
        for (runs in
            listOf(
                emptyList(),
                listOf(part),
                listOf(run, run),
                listOf(run.copy(cases = run.cases.reversed())),
            )) {
            assertThrows<IllegalArgumentException> { report(runs) }
        }
        val (app, device) = App("a", "1") to Device("m", "s", null)
        assertThrows<IllegalArgumentException> {
            DeviceReport(app, device, artifact, reference, "today", listOf(run))
        }
        assertThrows<IllegalArgumentException> { run.copy(error = "failed") }
        assertThrows<IllegalArgumentException> { run.copy(cases = emptyList()) }
        assertThrows<IllegalArgumentException> { run.copy(thermalState = "hot") }
        assertThrows<IllegalArgumentException> { run.copy(precision = "int8") }
    }
}
