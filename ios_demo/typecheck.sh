#!/usr/bin/env bash
# Type-checks the kit, the app, its Package.swift and the guide's snippets without Apple's SDKs: against the stub modules
# in stubs/. Swift 6 mode, and warnings are errors. Exit 69 with a line that says why where Swift cannot be had.
#
# Code is compiled as far as SIL, and not only with -typecheck: data races between actors, and members that an initializer
# forgets, are found on the way there.
set -euo pipefail
cd "$(dirname "$0")"
if [ "$(uname -s)" = Darwin ]; then
  echo "no check against stubs on a Mac: Xcode has the real API"
  exit 0
fi
if ! command -v swiftc > /dev/null; then
  exec ./swift-on-debian.sh ./typecheck.sh "$@"
fi

readonly APP=MobileViTDemo.swiftpm GUIDE=../docs/guides/ios.md
BUILD="$(mktemp -d)"
readonly BUILD
trap 'rm -rf "$BUILD"' EXIT
readonly CHECK=(swiftc -swift-version 6 -warnings-as-errors -parse-as-library -I "$BUILD")
# In the order of their imports.
readonly STUBS=(
  CoreGraphics QuartzCore UniformTypeIdentifiers CoreTransferable UIKit CoreVideo CoreMedia ImageIO CryptoKit
  AVFoundation CoreML Vision ExecuTorch CoreAI SwiftUI PhotosUI
)

files_of() { # FOLDER: its Swift files, into `files`
  mapfile -t files < <(find "$1" -name '*.swift' | sort)
}

module() { # NAME FOLDER: a module for the others to import
  files_of "$2"
  "${CHECK[@]}" -emit-module -module-name "$1" -emit-module-path "$BUILD/$1.swiftmodule" "${files[@]}"
}

check() { # NAME FILES...
  "${CHECK[@]}" -emit-sil -whole-module-optimization -o /dev/null -module-name "$1" "${@:2}"
}

for stub in "${STUBS[@]}"; do
  module "$stub" "stubs/$stub"
done
for target in MobileViTKit MobileViTDemoLogic; do
  module "$target" "$APP/MobileViTKit/Sources/$target"
  check "$target" "${files[@]}"
done
files_of "$APP/App"
check AppModule "${files[@]}"
echo "the kit and the app: no errors"

# Packages import PackageDescription, which lies beside the compiler.
manifests="$(find "$(dirname "$(readlink -f "$(command -v swiftc)")")/../lib/swift/pm" -name ManifestAPI)"
readonly PACKAGE=(swiftc -package-description-version 6.0 -I "$manifests" -I "$BUILD")
files_of stubs/AppleProductTypes
"${PACKAGE[@]}" -parse-as-library -emit-module -module-name AppleProductTypes -emit-module-path "$BUILD/AppleProductTypes.swiftmodule" "${files[@]}"
for manifest in "$APP/Package.swift" "$APP/MobileViTKit/Package.swift"; do
  "${PACKAGE[@]}" -warnings-as-errors -typecheck "$manifest"
done
echo "both Package.swift: no errors"

[ -e "$GUIDE" ] || exit 0 # an installed copy comes without the guides
awk -v folder="$BUILD" '
  /^```swift$/ { file = folder "/snippet" ++count ".swift"; for (line = 1; line <= NR; line++) print "" > file; next }
  /^```$/ { file = "" }
  file { print > file }
' "$GUIDE"
count=0
for snippet in "$BUILD"/snippet*.swift; do # an error names the line of the guide
  check Snippet "$snippet" 2>&1 | sed "s|^$snippet|$GUIDE|" >&2
  count=$((count + 1))
done
echo "$count snippets of the guide: no errors"
