#!/bin/sh
# tools.sh: fails, with one line, where `make apk` lacks a tool.
missing=
for tool in mvn javac keytool aapt aapt2 zipalign apksigner dexdump; do
  command -v "$tool" > /dev/null || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0
echo "apk: not built, missing:$missing (apt-get install maven default-jdk-headless aapt zipalign apksigner dexdump)" >&2
exit 69
