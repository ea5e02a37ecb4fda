package dev.mobilevit.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent

/** Asks the system for a file of [type]; false where the phone has no app that picks one. */
@Suppress("DEPRECATION") // What replaces it is androidx.
internal fun Activity.pickFile(type: String, request: Int): Boolean {
    val pick =
        Intent(Intent.ACTION_GET_CONTENT).addCategory(Intent.CATEGORY_OPENABLE).setType(type)
    return try {
        startActivityForResult(pick, request)
        true
    } catch (_: ActivityNotFoundException) {
        false
    }
}
