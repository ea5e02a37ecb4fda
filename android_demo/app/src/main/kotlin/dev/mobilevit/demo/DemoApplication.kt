package dev.mobilevit.demo

import android.app.Application
import android.os.Handler
import android.os.Looper
import dev.mobilevit.core.App
import dev.mobilevit.demo.engines.Backend
import dev.mobilevit.demo.engines.allBackends
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/** What outlives a turn of the screen. Tests replace [backends] and [worker]. */
open class DemoApplication : Application() {
    private val handler = Handler(Looper.getMainLooper())
    private val main = Executor { handler.post(it) }

    /** The one thread of all engines, which also reads artifacts. */
    open val worker: Executor = Executors.newSingleThreadExecutor { Thread(it, "engine") }

    open val backends: List<Backend> = allBackends()

    val library by lazy { Library(this) }
    val classifying by lazy { Classifying(backends, worker, main) }
    val verifying by lazy {
        Verifying(backends, { library.reports }, DeviceFacts(this), app(), worker, main)
    }

    /** Runs [work] on the worker and [then] with what it returns on the main thread. */
    fun <T> inBackground(work: () -> T, then: (T) -> Unit) = worker.execute {
        val result = work()
        main.execute { then(result) }
    }

    override fun onCreate() {
        super.onCreate()
        getExternalFilesDir(null) // the folder is there, and the app's, before adb writes into it
    }

    private fun app() =
        App("mobilevit-android", packageManager.getPackageInfo(packageName, 0).versionName ?: "0")
}
