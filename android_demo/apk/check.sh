#!/bin/bash
# check.sh APK: fails where the APK could not be installed or would not start. It has not run on a phone.
set -euo pipefail
apk=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$apk: $1" >&2; exit 1; }
apksigner verify --min-sdk-version 26 "$apk" || fail "the signature is not valid"
zipalign -c -p 4 "$apk" || fail "not aligned"
aapt dump badging "$apk" > "$work/badging" 2> /dev/null
for line in "package: name='dev.mobilevit.demo'" "sdkVersion:'26'" "targetSdkVersion:'35'" "launchable-activity: name='dev.mobilevit.demo.MainActivity'"; do
  grep -qF "$line" "$work/badging" || fail "aapt does not say $line"
done
unzip -qo "$apk" -d "$work/apk"
dexdump "$work/apk/classes.dex" > "$work/dex" || fail "classes.dex is damaged"
defined() { grep -qF "Class descriptor  : 'L${1//.//};'" "$work/dex"; }
for class in $(aapt2 dump xmltree --file AndroidManifest.xml "$apk" 2> /dev/null | sed -n 's/.*:name(.*)="\(dev\.mobilevit[^"]*\|\.[A-Z][^"]*\)".*/\1/p' | sed 's/^\./dev.mobilevit.demo./' | sort -u); do
  defined "$class" || fail "the manifest names $class, which is not in classes.dex"
done
! grep -q 'invoke-custom' "$work/dex" || fail "classes.dex has invoke-custom, which needs Java's LambdaMetafactory"
# A runtime's classes without its library would fail on the phone only.
for abi in arm64-v8a x86_64; do
  if defined org.tensorflow.lite.InterpreterApi; then test -s "$work/apk/lib/$abi/libtensorflowlite_jni.so" || fail "no TFLite library for $abi"; fi
  if defined org.pytorch.executorch.Module; then
    for name in executorch fbjni; do test -s "$work/apk/lib/$abi/lib$name.so" || fail "no lib$name.so for $abi"; done
  fi
done
defined com.google.ai.edge.litert.CompiledModel && fail "LiteRT's stub was packed"
runtimes=TFLite
defined org.pytorch.executorch.Module && runtimes="$runtimes, ExecuTorch"
echo "$apk: $(stat -c %s "$apk") bytes, $(grep -c 'Class descriptor' "$work/dex") classes, runtimes: $runtimes, artifacts: $(ls "$work/apk/assets/artifacts" 2> /dev/null | tr '\n' ' ')"
echo "It has not run on a phone yet."
