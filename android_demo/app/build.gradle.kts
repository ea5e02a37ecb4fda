import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "dev.mobilevit.demo"
    compileSdk = 35

    defaultConfig {
        applicationId = "dev.mobilevit.demo"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    // Phone files are mapped into memory, not unpacked.
    androidResources {
        noCompress += listOf("tflite", "pte")
    }

    // Several runtimes may bring C++'s library, under the same name.
    packaging {
        jniLibs {
            pickFirsts += "**/libc++_shared.so"
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

// The tests run with Maven and Robolectric, which need no Android SDK.
androidComponents {
    beforeVariants { it.enableUnitTest = false }
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_1_8)
    }
}

// Each runtime may be left out: take away its lines here, its file in engines/ and its name in Backend.kt.
dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    implementation(libs.tensorflow.lite)
    implementation(libs.executorch) {
        exclude(group = "androidx.core") // none of its classes uses it
    }
    implementation(libs.fbjni)
    implementation(libs.nativeloader)
}
