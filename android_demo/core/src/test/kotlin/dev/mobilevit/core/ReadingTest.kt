package dev.mobilevit.core

import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class JsonTest {
    private fun parse(text: String) = parseJson(ByteBuffer.wrap(text.toByteArray()), "it")

    @Test
    fun `values are read as JSON says`() {
        val text =
            """ {"a": [1, -2.5e2, true, false, null, 12345678901234567890], "b\n\u0041": "\"\\\/\ud83d\ude00é"} """
        val expected =
            mapOf(
                "a" to listOf(1L, -250.0, true, false, null, 12345678901234567890.0),
                "b\nA" to "\"\\/😀é",
            )
        assertEquals(expected, parse(text))
    }

    @Test
    fun `what is not JSON is refused`() {
        val wrong =
            listOf(
                "",
                " ",
                "{",
                "[1,]",
                "{\"a\":1,}",
                "{'a':1}",
                "01",
                "+1",
                "1.",
                ".5",
                "NaN",
                "Infinity",
                "1e999",
                "tru",
                "\"",
                "\"\t\"",
                "\"\\x\"",
                "\"\\u12g4\"",
                "\"\\ud800\"",
                "[1] 2",
                "{\"a\":1,\"a\":2}",
                "{1:2}",
                "\u00a01",
                "--1",
                "9".repeat(999),
                "[".repeat(65) + "]".repeat(65),
                "[".repeat(100_000),
                "{\"a\":".repeat(100_000),
            )
        for (text in wrong) assertRefused("it is not JSON") { parse(text) }
        assertRefused("not UTF-8") { parseJson(ByteBuffer.wrap(byteArrayOf(34, -1, 34)), "it") }
    }

    @Test
    fun `what is written is read back`() {
        val value =
            mapOf(
                "a\"\\" to
                    listOf(1L, 0.1, 1e-7, -3e20, true, null, "\u0000\u001f\u007f 😀 é / \u2028")
            )
        assertEquals(value, parse(writeJson(value)))
        assertEquals("\"\ufffd.\ufffd\"", writeJson("\ud800.\udc00"))
    }
}

class ManifestTest {
    @Test
    fun `the app's part is read and other keys are passed over`() {
        val manifest = Manifest.read(Tiny.manifest())
        assertEquals(
            listOf("tiny.tflite", "tflite", "fp32", "logits"),
            manifest.run { listOf(file, format, precision, output) },
        )
        assertEquals(listOf("dark", "bright"), manifest.labels)
        assertEquals(
            AppInput("image", Layout.NHWC, 2, 3, 0f, 1f, Resizing(false, 2, Filter.BILINEAR, 2, 3)),
            manifest.input,
        )
    }

    @Test
    fun `what this app cannot do right is refused with the reason`() {
        val refusals =
            mapOf(
                "\"schema\": 1" to "\"schema\": 3" to "update the app",
                "\"format\": \"tflite\"" to "\"format\": \"coreml\"" to "does not run on Android",
                "\"backend\": null" to "\"backend\": \"coreml\"" to "does not run on Android",
                "\"fp32\"" to "\"fp8\"" to "precision fp8",
                "\"tiny.tflite\"" to "\"../tiny.tflite\"" to "not the name of a file in its folder",
                "\"tiny.tflite\"" to "\"..\"" to "not the name of a file in its folder",
                "\"tiny.tflite\"" to "\"C:\\\\tiny\"" to "not the name of a file in its folder",
                "\"tiny.tflite\"" to "\"a\\u0000b\"" to "not the name of a file in its folder",
                "\"tiny.tflite\"" to "\"a\\u2028b\"" to "not the name of a file in its folder",
                "\"file\"" to "\"fail\"" to "file is missing",
                Tiny.sha256 to Tiny.sha256.uppercase() to "64 lowercase",
                "\"bytes\": ${Tiny.file.size}" to "\"bytes\": -1" to "bytes must be",
                "\"bytes\": ${Tiny.file.size}" to "\"bytes\": 1.5" to "bytes must be an integer",
                "[\"dark\", \"bright\"]" to "[\"dark\"]" to "1 labels for 2 classes",
                "[\"dark\", \"bright\"]" to "[\"dark\", 2]" to "must hold texts",
                "\"num_classes\": 2" to "\"num_classes\": 99999999" to "num_classes must be",
                "\"NHWC\"" to "\"picture\"" to "layout picture",
                "\"NHWC\"" to "\"NCHW\"" to "not that of one RGB image",
                "[1, 2, 3, 3]" to "[2, 2, 3, 3]" to "not that of one RGB image",
                "[1, 2, 3, 3]" to "[1, 2, 99999, 3]" to "shape must hold integers",
                "\"float32\"" to "\"int8\"" to "dtype must be float32",
                "\"RGB\"" to "\"BGR\"" to "channel_order must be RGB",
                "\"in the graph\"" to "\"in the app\"" to "mean_and_std must be",
                "[0.0, 1.0]" to "[1.0, 1.0]" to "range must be two numbers",
                "\"antialias\": true" to "\"antialias\": false" to "antialias",
                "\"bilinear\"" to "\"nearest\"" to "filter nearest",
                "\"shorter side\"" to "\"longer side\"" to "mode longer side",
                "\"shorter side\"" to "\"squash\"" to "is not the input's",
                "\"center_crop\": [2, 3]" to
                    "\"center_crop\": null" to
                    "center_crop must be a list",
                "\"center_crop\": [2, 3]" to
                    "\"center_crop\": [3, 3]" to
                    "center_crop is not the input's size",
                "\"app_input\"" to "\"other_input\"" to "does not take one image",
            )
        for ((change, reason) in refusals) {
            val changed = Tiny.manifest { it.replace(change.first, change.second) }
            assertRefused("manifest.json", reason) { Manifest.read(changed) }
        }
    }

    @Test
    fun `a file that was rejected when it was converted says why`() {
        val judgment =
            "\"quantization\": {\"judgment\": {\"rejected\": true, \"reasons\": [\"top-1 fell\"]}}, \"schema\": 1"
        assertEquals(
            listOf("top-1 fell"),
            Manifest.read(Tiny.manifest { it.replace("\"schema\": 1", judgment) }).rejections,
        )
        val kept = judgment.replace("true", "false")
        assertEquals(
            emptyList<String>(),
            Manifest.read(Tiny.manifest { it.replace("\"schema\": 1", kept) }).rejections,
        )
    }

    @Test
    fun `3000 damaged manifests are read or refused`() =
        assertSurvivesMutations(Tiny.manifest(), 3000) { Manifest.read(it) }
}

class ReferenceTest {
    private val manifest = Manifest.read(Tiny.manifest())

    @Test
    fun `planes become pixels and answers belong to their cases`() {
        val reference = Reference.read(Tiny.reference(), manifest)
        val cases =
            listOf(
                ReferenceCase("one", false),
                ReferenceCase("two", false),
                ReferenceCase("noise", true),
            )
        assertEquals(cases, reference.cases)
        val picture = reference.image(1)
        val second = (18..35).map { (it * 37 % 256).toByte() } // three planes of six
        assertEquals(
            (0..5).flatMap { listOf(second[it], second[it + 6], second[it + 12]) },
            picture.rgb.toList(),
        )
        assertEquals(1f, reference.answer(2).sum(), 1e-6f)
    }

    @Test
    fun `tensors that lie over each other, leave gaps or do not fit their shape are refused`() {
        fun header(text: String, size: Int = 8) = safetensors(text, ByteArray(size))
        fun tensor(shape: String, offsets: String, dtype: String = "U8") =
            """{"dtype":"$dtype","shape":$shape,"data_offsets":$offsets}"""
        val wrong =
            mapOf(
                ByteArray(7) to "7 bytes",
                ByteArray(8) to "cannot have 0 bytes",
                ByteArray(8) { -1 } to "cannot have -1 bytes",
                safetensors("{}", ByteArray(0)).copyOf(9) to "cannot have 2 bytes",
                header("[]") to "not a JSON object",
                header("{}") to "belong to no tensor",
                header("""{"a":${tensor("[4]", "[0,4]")}}""") to "belong to no tensor",
                header("""{"a":${tensor("[4]", "[4,8]")}}""") to "not where the one before ends",
                header("""{"a":${tensor("[6]", "[0,6]")},"b":${tensor("[4]", "[4,8]")}}""") to
                    "not where the one before ends",
                header("""{"a":${tensor("[4]", "[0,8]")}}""") to "takes 4 bytes, not 8",
                header("""{"a":${tensor("[9]", "[0,9]")}}""") to "data_offsets must hold",
                header("""{"a":${tensor("[-8]", "[0,8]")}}""") to "shape must hold",
                header("""{"a":${tensor("[2147483647,2147483647,2147483647]", "[0,8]")}}""") to
                    "more values than the file",
                header("""{"a":${tensor("[4]", "[8,4]")}}""") to "malformed",
                header("""{"a":${tensor("[8]", "[0,8]", "F8")}}""") to "dtype F8",
                header("""{"a":${tensor("[4]", "[0,4]")},"a":${tensor("[4]", "[4,8]")}}""") to
                    "twice",
            )
        for ((content, reason) in wrong) assertRefused("file.st", reason) {
            Safetensors.read(content, "file.st")
        }
    }

    @Test
    fun `vectors of another artifact are refused`() {
        val tensors = String(Tiny.reference(), Charsets.ISO_8859_1)
        fun changed(from: String, to: String) =
            tensors.replace(from, to).toByteArray(Charsets.ISO_8859_1)
        assertRefused("images are [3, 3, 3, 2], expected [3, 3, 2, 3]") {
            Reference.read(changed("[3,3,2,3]", "[3,3,3,2]"), manifest)
        }
        assertRefused("does not fit the manifest") {
            Reference.read(changed("[3,2]", "[2,3]"), manifest)
        }
        assertRefused("no tensor logits") {
            Reference.read(changed("\"logits\"", "\"digits\""), manifest)
        }
        assertRefused("role edgy") {
            Reference.read(changed("\\\"role\\\": \\\"edge", "\\\"role\\\": \\\"edgy"), manifest)
        }
        assertRefused("says nothing of its cases") {
            Reference.read(changed("\"cases\"", "\"ca5es\""), manifest)
        }
        val notFinite = Tiny.reference().also { littleEndian(Float.NaN).copyInto(it, it.size - 78) }
        assertRefused("not finite") { Reference.read(notFinite, manifest) }
    }

    @Test
    fun `the answers of a network without a classifier may be maps`() {
        val features = manifest.copy(output = "features", labels = null)
        val content =
            String(Tiny.reference(), Charsets.ISO_8859_1)
                .replace("\"logits\"", "\"features\"")
                .replace("[3,2]", "[3,2,1,1]")
        val header = content.substring(8, content.indexOf("}}") + 2)
        val reference =
            Reference.read(
                safetensors(header, Tiny.reference().takeLast(78).toByteArray()),
                features,
            )
        assertEquals(2, reference.answerSize)
        assertArrayEquals(Reference.read(Tiny.reference(), manifest).answer(1), reference.answer(1))
    }

    @Test
    fun `3000 damaged files are read or refused`() =
        assertSurvivesMutations(Tiny.reference(), 3000) { Reference.read(it, manifest).image(0) }
}
