package dev.mobilevit.core

/**
 * What is wrong with a file or folder, in one line for people: the only exception that reading one
 * throws.
 */
class ArtifactException(message: String, cause: Throwable? = null) : Exception(message, cause)
