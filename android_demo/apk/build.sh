#!/bin/bash
# build.sh [ARTIFACT...]: builds a signed APK from what Maven compiled, by Debian's tools and without the Android SDK:
# app/target/mobilevit.apk, with these artifact folders inside. It has TFLite's interpreter, and ExecuTorch where Maven
# was run with -Pexecutorch; LiteRT comes with Gradle.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=$here/app/target/apk
version=$(sed -n 's|.*<android.compile.version>\(.*\)</.*|\1|p' "$here/pom.xml")
framework=$HOME/.m2/repository/org/robolectric/android-all/$version/android-all-$version.jar
tools=$here/apk/target/tools
jdk=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")") # of android.* alone are the framework's classes
for jar in "$framework" "$jdk/jmods/java.base.jmod" "$tools" "$here/app/target/classes" "$here/app/target/resources.apk"; do
  [ -e "$jar" ] || { echo "$jar is missing; run: mvn -f $here package" >&2; exit 66; }
done
rm -rf "$out" && mkdir -p "$out/apk/assets/artifacts"

# Shrunk first: all of Kotlin's library does not fit in one dex file.
runtimes=("$here/maven/tensorflow-lite/target")
[ ! -d "$here/maven/executorch/target/aar" ] || runtimes+=("$here/maven/executorch/target")
{
  for folder in "$here/app/target/classes" "$here/core/target/classes" "${runtimes[@]/%//classes}"; do echo "-injars '$folder'"; done
  echo "-injars '$(echo "$tools"/kotlin-stdlib-*.jar)'(!META-INF/**)"
  echo "-libraryjars '$framework'"
  for module in base logging; do echo "-libraryjars '$jdk/jmods/java.$module.jmod'(!**.jar;!module-info.class)"; done
  echo "-outjars '$out/classes.jar'"
} > "$out/jars.pro"
java -cp "$tools/*" proguard.ProGuard @"$out/jars.pro" @"$here/apk/rules.pro" > "$out/proguard.log" || { cat "$out/proguard.log" >&2; exit 1; }
java -cp "$tools/*" com.android.dx.command.Main --dex --min-sdk-version=26 --output="$out/apk/classes.dex" "$out/classes.jar"

for folder in "${runtimes[@]}"; do
  for abi in arm64-v8a x86_64; do
    mkdir -p "$out/apk/lib/$abi"
    find "$folder"/aar/*/jni/"$abi" -name '*.so' -exec cp {} "$out/apk/lib/$abi/" \;
  done
done
for artifact in "$@"; do
  [ -f "$artifact/manifest.json" ] || { echo "$artifact is not an artifact's folder: no manifest.json" >&2; exit 66; }
  cp -r "$artifact" "$out/apk/assets/artifacts/"
done

cp "$here/app/target/resources.apk" "$out/unaligned.apk"
(cd "$out/apk" && find . -type f | sed 's|^\./||' | LC_ALL=C sort | xargs aapt add ../unaligned.apk > /dev/null)
zipalign -f -p 4 "$out/unaligned.apk" "$out/aligned.apk"
# A key of this machine, for tests; kept, so that a newer build can be installed over an older one.
key=${XDG_CACHE_HOME:-$HOME/.cache}/mobilevit-sdk/android-debug.keystore
mkdir -p "$(dirname "$key")"
[ -f "$key" ] || keytool -genkeypair -keystore "$key" -storepass android -alias debug -keyalg RSA -keysize 2048 \
  -validity 10000 -dname "CN=MobileViT debug" > /dev/null 2>&1
apksigner sign --ks "$key" --ks-pass pass:android --min-sdk-version 26 --out "$here/app/target/mobilevit.apk" "$out/aligned.apk"
"$here/apk/check.sh" "$here/app/target/mobilevit.apk"
