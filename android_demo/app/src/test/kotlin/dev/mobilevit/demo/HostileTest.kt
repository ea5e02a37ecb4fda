package dev.mobilevit.demo

import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.provider.OpenableColumns
import android.widget.TextView
import java.io.File
import java.io.FileNotFoundException
import java.nio.file.Files
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config

/** What other apps may send: intents, files, and addresses of reports. */
@RunWith(RobolectricTestRunner::class)
@Config(application = TestApplication::class)
class HostileTest {
    @Before
    fun backends() {
        TestApplication.backends = listOf(FakeBackend())
    }

    @Test
    fun `no intent but a whole one starts anything`() {
        val none =
            listOf(
                Intent().putExtra("verify", "../one"),
                Intent().putExtra("verify", ""),
                Intent().putExtra("verify", "."),
                Intent().putExtra("verify", ".."),
                Intent().putExtra("verify", "one/two"),
                Intent().putExtra("verify", "one\u0000"),
                Intent().putExtra("verify", "a".repeat(101)),
                Intent().putExtra("verify", 7),
                Intent().putExtra("verify", Bundle()),
                Intent(Intent.ACTION_SEND),
                Intent(Intent.ACTION_SEND)
                    .putExtra(Intent.EXTRA_STREAM, "content://a string/is.zip"),
                Intent(Intent.ACTION_SEND)
                    .putExtra(
                        Intent.EXTRA_STREAM,
                        Uri.parse("file:///data/data/dev.mobilevit.demo/files/x.zip"),
                    ),
                Intent(Intent.ACTION_VIEW),
                Intent(Intent.ACTION_VIEW, Uri.parse("https://example.com/a.zip")),
                Intent(Intent.ACTION_VIEW, Uri.parse("android.resource://dev.mobilevit.demo/1")),
            )
        for (intent in none) {
            assertTrue("$intent is not refused", requestOf(intent) is Request.Refused)
            val screen = start<MainActivity>(intent)
            assertNull("$intent starts something", shadowOf(screen.get()).nextStartedActivity)
            assertTrue(app.verifying.state.value is VerifyState.Idle)
        }
        assertNull(requestOf(Intent(Intent.ACTION_MAIN)))
        assertNull(requestOf(Intent()))
    }

    private fun import(content: ByteArray, name: String = "shared.zip"): String {
        val screen =
            start<ArtifactsActivity>(ArtifactsActivity.importing(app, shared(content, name)))
        return screen.get().findViewById<TextView>(R.id.note).text.toString()
    }

    @Test
    fun `an artifact in a zip that was shared is unpacked and in use`() {
        val send =
            Intent(Intent.ACTION_SEND)
                .putExtra(Intent.EXTRA_STREAM, shared(zip(artifactFiles()), "a.zip"))
        val main = start<MainActivity>(send)
        val next = shadowOf(main.get()).nextStartedActivity
        assertEquals(ArtifactsActivity::class.java.name, next.component!!.className)
        val screen = start<ArtifactsActivity>(next)
        assertTrue(
            screen.get().findViewById<TextView>(R.id.note).text.endsWith("is here and in use.")
        )
        assertEquals(
            1,
            app.library.entries().count {
                it.source == Entry.Source.IMPORTED && it.artifact != null
            },
        )
        assertTrue(app.classifying.state.value.artifact!!.folder.path.startsWith(app.filesDir.path))
    }

    @Test
    fun `zips that are damaged, foreign or reach out are refused and leave nothing`() {
        val good = artifactFiles()
        val whole = zip(good)
        val hostile =
            listOf(
                ByteArray(0),
                "PK".toByteArray(),
                whole.copyOf(whole.size / 3),
                zip(mapOf("readme.txt" to "hello".toByteArray())),
                zip(good + ("../escaped.txt" to "x".toByteArray())),
                zip(good + ("/data/local/tmp/escaped.txt" to "x".toByteArray())),
                zip(good.mapKeys { "../../${it.key}" }),
                zip(good - "manifest.json"),
                zip(good + ("mobilevit_xxs.tflite" to "another file".toByteArray())),
            )
        val before = files()
        for ((index, content) in hostile.withIndex()) {
            val line = import(content)
            assertTrue("zip $index: $line", line.isNotEmpty() && "in use" !in line && '\n' !in line)
            assertEquals("zip $index", before, files())
        }
        assertNull(app.classifying.state.value.artifact)
    }

    /** All files of the app and beside it. */
    private fun files(): Set<String> =
        app.filesDir.parentFile!!
            .walkTopDown()
            .filter { it.isFile && it.name != "version" }
            .map { it.path }
            .toSet()

    @Test
    fun `a file of another app that cannot be read is said`() {
        val uri = Uri.parse("content://another.app/gone.zip")
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) {
            throw IllegalStateException("a bug of the other app")
        }
        val gone = start<ArtifactsActivity>(ArtifactsActivity.importing(app, uri))
        assertEquals(
            "The other app fails to give the file.",
            gone.get().findViewById<TextView>(R.id.note).text.toString(),
        )
        val own =
            start<ArtifactsActivity>(Intent().setData(Uri.fromFile(File(app.filesDir, "x.zip"))))
        assertEquals(
            "Only files that another app shares can be opened.",
            own.get().findViewById<TextView>(R.id.note).text.toString(),
        )
    }

    @Test
    fun `the report provider gives reports to read and nothing else`() {
        val provider =
            Robolectric.setupContentProvider(
                ReportProvider::class.java,
                "dev.mobilevit.demo.reports",
            )
        val report = File(app.library.reports, "one.device-report.json").apply { writeText("{}") }
        File(app.filesDir, "secret").writeText("secret")
        Files.createSymbolicLink(
            File(app.library.reports, "link.json").toPath(),
            File(app.filesDir, "secret").toPath(),
        )
        File(app.library.reports, "folder").mkdir()
        val base = "content://dev.mobilevit.demo.reports"
        provider.openFile(Uri.parse("$base/one.device-report.json"), "r").use {
            assertArrayEquals(
                "{}".toByteArray(),
                java.io.FileInputStream(it.fileDescriptor).readBytes(),
            )
        }
        provider.query(Uri.parse("$base/one.device-report.json"), null, null, null, null).use {
            it.moveToFirst()
            assertEquals(
                "one.device-report.json",
                it.getString(it.getColumnIndexOrThrow(OpenableColumns.DISPLAY_NAME)),
            )
            assertEquals(2, it.getLong(it.getColumnIndexOrThrow(OpenableColumns.SIZE)))
        }
        val others =
            listOf(
                    "",
                    "/",
                    "/missing.json",
                    "/link.json",
                    "/folder",
                    "/..",
                    "/.",
                    "/..%2Fsecret",
                    "/../secret",
                    "/%2E%2E%2Fsecret",
                    "/one.device-report.json/",
                    "/folder/../one.device-report.json",
                    "/%2Fetc%2Fpasswd",
                    "/one.device-report.json%00",
                )
                .filter { Uri.parse(base + it).pathSegments != listOf("one.device-report.json") }
        for (path in others) {
            assertThrows(path, FileNotFoundException::class.java) {
                provider.openFile(Uri.parse(base + path), "r")
            }
            assertThrows(path, FileNotFoundException::class.java) {
                provider.query(Uri.parse(base + path), null, null, null, null)
            }
        }
        for (mode in listOf("w", "rw", "rwt", "wa", "")) {
            assertThrows(mode, FileNotFoundException::class.java) {
                provider.openFile(Uri.parse("$base/one.device-report.json"), mode)
            }
        }
        assertThrows(UnsupportedOperationException::class.java) {
            provider.delete(Uri.parse("$base/one.device-report.json"), null, null)
        }
        assertTrue(report.isFile)
        assertFalse(
            app.packageManager.resolveContentProvider("dev.mobilevit.demo.reports", 0)!!.exported
        )
    }
}
