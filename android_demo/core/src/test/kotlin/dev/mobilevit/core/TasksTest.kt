package dev.mobilevit.core

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** A file that answers a task beside its own classes. */
class TasksTest(@param:TempDir private val out: File) {
    private val tasks =
        """"tasks": [{"name": "pets", "num_classes": 3, "cells": 2, "labels": ["cat", "dog", "fish"]}]"""
    private val manifest =
        Tiny.manifest { it.replace("\"model\": \"tiny\"", "\"model\": \"tiny\", $tasks") }
    private val pets = floatArrayOf(0f, 2f, 1f, 3f, 0f, 1f, 1f, 0f, 5f)

    private fun artifact(): ArtifactFolder {
        val plain = String(Tiny.reference(), Charsets.ISO_8859_1)
        val header = plain.substring(8, plain.indexOf("}}") + 1)
        val both =
            """$header,"pets":{"dtype":"F32","shape":[3,3],"data_offsets":[78,114]}}"""
        val data = Tiny.reference().takeLast(78).toByteArray() + littleEndian(*pets)
        val files =
            Tiny.files() +
                mapOf("manifest.json" to manifest, "reference.safetensors" to safetensors(both, data))
        return ArtifactFolder.open(Tiny.write(File(out, "tiny"), files))
    }

    /** Each case's own answer; [change] is of the values of pets. */
    private fun engine(reference: Reference, change: (FloatArray) -> FloatArray = { it }): Engine {
        var case = -1
        return Tiny.TinyEngine {
            case = minOf(case + 1, reference.cases.lastIndex)
            it + change(pets.copyOfRange(3 * case, 3 * case + 3))
        }
    }

    @Test
    fun `each task has its own classes and stands in the report by its name`() {
        val artifact = artifact()
        val reference = artifact.reference()
        assertEquals(listOf("logits", "pets"), artifact.manifest.heads.map { it.name })
        val found = Classifier(artifact, engine(reference)).classify(Picture(3, 2))
        assertEquals(listOf("dark", "bright"), found.top.map { it.label })
        assertEquals(listOf("dog", "fish", "cat"), found.tasks.getValue("pets").map { it.label })
        assertEquals("pets: dog", found.shown[2].label)
        val verified = verify(artifact, reference, engine(reference))
        val verdict = verified.verdict!!
        assertTrue(verdict.passed) { verdict.reasons.toString() }
        val outputs = verified.run.cases[1].outputs
        assertEquals(listOf(3f, 0f, 1f), outputs.getValue("pets").toList())
        assertEquals(2, outputs.getValue("logits").size)
    }

    @Test
    fun `the worst output decides and the reason names it`() {
        val artifact = artifact()
        val reference = artifact.reference()
        val wrong = engine(reference) { floatArrayOf(it[1], it[0], it[2]) }
        val verdict = verify(artifact, reference, wrong).verdict!!
        assertFalse(verdict.passed)
        assertTrue(verdict.reasons.all { it.startsWith("pets: ") }) { verdict.reasons.toString() }
    }

    @Test
    fun `a task with other labels than classes is refused`() {
        val fewer = String(manifest).replace("\"cat\", ", "")
        assertRefused("2 labels for 3 classes") { Manifest.read(fewer.toByteArray()) }
        val again = String(manifest).replace("\"pets\"", "\"logits\"")
        assertRefused("names of their own") { Manifest.read(again.toByteArray()) }
    }
}
