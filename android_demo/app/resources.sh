#!/bin/sh
# resources.sh ANDROID_JAR TARGET: what Gradle does with resources, by aapt2: TARGET/resources.apk and R.java in TARGET/generated.
set -eu
cd "$(dirname "$0")/src/main"
mkdir -p "$2/generated"
# Gradle takes the package from its build file and refuses it in the manifest; aapt2 wants it there.
sed 's|<manifest |<manifest package="dev.mobilevit.demo" |' AndroidManifest.xml > "$2/AndroidManifest.xml"
aapt2 compile --dir res -o "$2/resources.zip"
aapt2 link --warn-manifest-validation -I "$1" --manifest "$2/AndroidManifest.xml" --min-sdk-version 26 --target-sdk-version 35 \
  --version-code 1 --version-name 0.1.0 --java "$2/generated" -o "$2/resources.apk" "$2/resources.zip"
