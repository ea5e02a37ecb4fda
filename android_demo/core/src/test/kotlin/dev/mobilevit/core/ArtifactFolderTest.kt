package dev.mobilevit.core

import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class ArtifactFolderTest(@param:TempDir private val parent: File) {
    private fun unzip(zip: ByteArray, name: String = "given") =
        ArtifactFolder.unzip(ByteArrayInputStream(zip), parent, name)

    @Test
    fun `a folder is opened with its reference vectors`() {
        val artifact = ArtifactFolder.open(Tiny.write(File(parent, "tiny-tflite-fp32")))
        assertEquals(
            listOf("tiny-tflite-fp32", "tiny.tflite", 3),
            artifact.run { listOf(name, file.name, reference().cases.size) },
        )
        assertEquals(listOf(artifact.folder), ArtifactFolder.list(parent))
        assertEquals(emptyList<File>(), ArtifactFolder.list(File(parent, "nothing")))
    }

    @Test
    fun `a folder that is not whole or not as it was made is refused`() {
        fun open(change: (MutableMap<String, ByteArray>) -> Unit): ArtifactFolder {
            val folder = File(parent, "changed").also { it.deleteRecursively() }
            return ArtifactFolder.open(Tiny.write(folder, Tiny.files().toMutableMap().also(change)))
        }
        assertRefused("changed is not an artifact") { open { it.remove("manifest.json") } }
        assertRefused("tiny.tflite is missing") { open { it.remove("tiny.tflite") } }
        assertRefused("has 3 bytes, but manifest.json says 14") {
            open { it["tiny.tflite"] = ByteArray(3) }
        }
        assertRefused("its SHA-256 differs") { open { it["tiny.tflite"] = ByteArray(14) } }
        assertRefused("reference.safetensors is missing") {
            open { it.remove("reference.safetensors") }.reference()
        }
        assertRefused("nothing there") { ArtifactFolder.open(File(parent, "nothing there")) }
    }

    @Test
    fun `a zip with the files at its top or in one folder is unpacked, and what file managers add is left out`() {
        assertEquals("given", unzip(zipOf(Tiny.files())).name)
        val inFolder = Tiny.files().mapKeys { "my tiny/${it.key}" }
        val added =
            mapOf(
                "my tiny/" to ByteArray(0),
                "my tiny/.DS_Store" to ByteArray(9),
                "__MACOSX/my tiny/._x" to ByteArray(9),
            )
        val artifact = unzip(zipOf(added + inFolder))
        assertEquals("my-tiny", artifact.name)
        assertEquals(Tiny.files().keys, artifact.folder.list()!!.toSet())
        assertEquals(listOf("given", "my-tiny"), ArtifactFolder.list(parent).map { it.name })
    }

    @Test
    fun `an artifact of the same name is replaced by a whole one only`() {
        unzip(zipOf(Tiny.files()))
        val damaged = Tiny.files() + ("tiny.tflite" to ByteArray(14) { 1 })
        assertRefused("its SHA-256 differs") { unzip(zipOf(damaged)) }
        assertEquals(
            Tiny.files().keys,
            ArtifactFolder.open(File(parent, "given")).folder.list()!!.toSet(),
        )
        unzip(zipOf(Tiny.files() + ("notes.txt" to ByteArray(1))))
        assertTrue(File(parent, "given/notes.txt").isFile)
        assertEquals(listOf("given"), parent.list()!!.toList())
    }

    @Test
    fun `what a killed call left is removed, and an artifact that it had moved aside comes back`() {
        Tiny.write(File(parent, ".replaced-kept"))
        Tiny.write(File(parent, ".replaced-given"))
        Tiny.write(File(parent, "given"))
        File(parent, ".unpacking/half").apply { parentFile.mkdirs() }.writeText("")
        assertRefused("not a zip") { unzip(ByteArray(0)) }
        assertEquals(listOf("given", "kept"), parent.list()!!.sorted())
    }

    @Test
    fun `names that lead out of the folder and other layouts are refused, and nothing is left`() {
        val escaping =
            listOf(
                "../evil",
                "a/../../evil",
                "/evil",
                "..\\evil",
                "C:evil",
                "a//evil",
                "./evil",
                "evil\u0000.txt",
                "..",
            )
        for (name in escaping) {
            assertRefused("leads out of it") { unzip(zipOf(Tiny.files() + (name to ByteArray(1)))) }
        }
        val layouts = listOf("a/b/c", "deep/manifest.json")
        for (name in layouts) assertRefused("at its top or in one folder") {
            unzip(zipOf(Tiny.files() + (name to ByteArray(1))))
        }
        val two = Tiny.files().mapKeys { "a/${it.key}" } + Tiny.files().mapKeys { "b/${it.key}" }
        assertRefused("at its top or in one folder") { unzip(zipOf(two)) }
        assertRefused("twice") { unzip(zipOf(Tiny.files() + ("Manifest.JSON" to ByteArray(1)))) }
        assertRefused("not a zip") { unzip(ByteArray(100) { 7 }) }
        assertRefused("not a zip") { unzip(zipOf(mapOf("folder/" to ByteArray(0)))) }
        assertRefused("not an artifact") { unzip(zipOf(mapOf("photo.jpg" to ByteArray(5)))) }
        assertRefused("more than 1000 entries") {
            unzip(zipOf((0..1000).associate { "$it" to ByteArray(0) }))
        }
        assertEquals(emptyList<String>(), parent.list()!!.toList())
        assertTrue(File(parent.parentFile, "evil").exists().not())
    }

    @Test
    fun `a bomb stops at the bound`() {
        val bomb = zipOf(Tiny.files() + ("zeros" to ByteArray(50_000_000)))
        assertTrue(bomb.size < 100_000)
        val folder = File(parent, "bomb").also { it.mkdirs() }
        assertRefused("holds more than 1000000 bytes") {
            unpack(ByteArrayInputStream(bomb), folder, 1_000_000)
        }
        assertTrue(folder.listFiles()!!.sumOf { it.length() } <= 1_000_000)
        val hidden = zipOf(mapOf("__MACOSX/zeros" to ByteArray(50_000_000)))
        assertRefused("holds more than 1000000 bytes") {
            unpack(ByteArrayInputStream(hidden), folder, 1_000_000)
        }
    }

    @Test
    fun `a stream that breaks off is refused in one line`() {
        val whole = zipOf(Tiny.files())
        val broken =
            object : InputStream() {
                private val bytes = ByteArrayInputStream(whole, 0, whole.size / 2)

                override fun read(): Int =
                    bytes.read().also { if (it < 0) throw IOException("the provider\nhas gone") }
            }
        assertRefused("the zip is damaged: the provider has gone") {
            ArtifactFolder.unzip(broken, parent, "given")
        }
        assertRefused("the zip is damaged") { unzip(whole.copyOf(200)) }
        assertRefused("cannot be unpacked") {
            ArtifactFolder.unzip(
                ByteArrayInputStream(whole),
                File(parent, "x").apply { writeText("") },
                "a",
            )
        }
    }

    @Test
    fun `1500 damaged zips are unpacked or refused, and leave nothing half there`() {
        val zip = zipOf(Tiny.files())
        assertSurvivesMutations(zip, 1500) { bytes ->
            try {
                unzip(bytes)
            } finally {
                assertTrue(parent.list()!!.all { !it.startsWith(".") })
                ArtifactFolder.list(parent).forEach { ArtifactFolder.open(it) }
            }
        }
    }
}
