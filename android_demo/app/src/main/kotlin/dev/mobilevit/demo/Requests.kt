package dev.mobilevit.demo

import android.content.Intent
import android.net.Uri

/** What another app, or `adb`, asks this one to do. */
internal sealed interface Request {
    class Verify(val name: String) : Request

    class Import(val uri: Uri) : Request

    class Refused(val reason: String) : Request
}

/**
 * Reads an intent, which may come from any app and say anything; null where it only starts this
 * one.
 */
@Suppress("DEPRECATION") // The typed getter needs Android 13.
internal fun requestOf(intent: Intent): Request? =
    try {
        when {
            intent.hasExtra("verify") -> {
                val name = intent.getStringExtra("verify")
                if (name != null && isName(name)) Request.Verify(name)
                else Request.Refused("\"verify\" names no artifact's folder.")
            }
            intent.action == Intent.ACTION_VIEW -> import(intent.data)
            intent.action == Intent.ACTION_SEND ->
                import(
                    intent.getParcelableExtra<android.os.Parcelable>(Intent.EXTRA_STREAM) as? Uri
                )
            else -> null
        }
    } catch (
        _: RuntimeException) { // Of extras that do not unparcel: BadParcelableException and others.
        Request.Refused("Another app sent what this one cannot read.")
    }

private fun import(uri: Uri?): Request =
    when {
        uri == null -> Request.Refused("Another app shared nothing.")
        uri.scheme != "content" ->
            Request.Refused("Only files that another app shares can be opened.")
        else -> Request.Import(uri)
    }
