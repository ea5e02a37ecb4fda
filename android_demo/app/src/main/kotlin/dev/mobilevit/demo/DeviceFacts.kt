package dev.mobilevit.demo

import android.content.Context
import android.os.Build
import android.os.PowerManager
import dev.mobilevit.core.Device
import java.io.File
import java.io.IOException

/** What a device report says about this phone. */
class DeviceFacts(private val context: Context) {
    fun device() =
        Device(
            model = Build.MODEL,
            system = "Android ${Build.VERSION.RELEASE}",
            processor =
                if (Build.VERSION.SDK_INT >= 31) Build.SOC_MODEL.takeIf { it != Build.UNKNOWN }
                else null,
        )

    /** "nominal", "fair", "serious" or "critical"; null before Android 10. */
    fun thermalState(): String? {
        if (Build.VERSION.SDK_INT < 29) return null
        return when (context.getSystemService(PowerManager::class.java).currentThermalStatus) {
            PowerManager.THERMAL_STATUS_NONE -> "nominal"
            PowerManager.THERMAL_STATUS_LIGHT,
            PowerManager.THERMAL_STATUS_MODERATE -> "fair"
            PowerManager.THERMAL_STATUS_SEVERE -> "serious"
            else -> "critical"
        }
    }

    /** The most memory that the process has had resident so far; null where the system hides it. */
    fun peakMemoryBytes(): Long? =
        try {
            peakMemoryBytes(File("/proc/self/status").readText())
        } catch (_: IOException) {
            null
        }
}

/** Of the text of /proc/PID/status. */
internal fun peakMemoryBytes(status: String): Long? =
    Regex("""^VmHWM:\s+(\d+) kB$""", RegexOption.MULTILINE).find(status)?.let {
        it.groupValues[1].toLong() * 1024
    }
