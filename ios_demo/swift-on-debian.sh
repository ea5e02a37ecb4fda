#!/usr/bin/env bash
# Swift 6 on Linux. Runs COMMAND where `swift` and `swiftc` are, or without one only sees that they are there:
#
#   ios_demo/swift-on-debian.sh swift test --package-path ios_demo/MobileViTKit
#
# A `swift` of this machine is used as it is. Elsewhere Debian 13's package `swiftlang` goes into a root file system
# of its own in the user's cache folder (2.8 GB, once), and COMMAND runs there: this repository, the working folder and
# the folder for temporary files appear in it under their own paths. That takes root on a Debian-like system.
# With the option --no-install before COMMAND nothing is fetched.
# Exit status: that of COMMAND; 69 with one line that says why, where Swift cannot be had.
set -euo pipefail

readonly RELEASE=trixie MIRROR="http://deb.debian.org/debian"
readonly PACKAGES=swiftlang,libc6-dev,libstdc++-14-dev
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/mobilevit-sdk"
readonly ROOT="$CACHE/swift-$RELEASE"
REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
readonly REPOSITORY

unavailable() {
  echo "ios_demo: no Swift, $1" >&2
  exit 69
}

# Mounts are made in a mount namespace of the command's own: the kernel takes them back when the command ends, however
# it ends, and nobody else ever sees them. So no mount is left behind that a later `rm -rf` could follow.
in_own_namespace() {
  unshare --mount --propagation private -- "$@"
}

check_machine() {
  [ "$(uname -s)" = Linux ] || unavailable "install Xcode 16 or newer"
  [ "$(id -u)" = 0 ] || unavailable "install Swift 6 (https://www.swift.org/install), or run this as root on Debian"
  command -v apt-get > /dev/null || unavailable "this is not a Debian-like system; install Swift 6 from https://www.swift.org/install"
  in_own_namespace true 2> /dev/null || unavailable "this container may not mount (CAP_SYS_ADMIN), which a Debian of its own needs"
}

install_debootstrap() {
  command -v debootstrap > /dev/null && return
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap > /dev/null; } 2> /dev/null ||
    unavailable "apt-get cannot install debootstrap, which fetches Debian $RELEASE"
}

# Into a folder of another name, renamed when it is whole: a download that was cut short is never taken for Swift.
install_swift() {
  local partial="$ROOT.partial"
  install_debootstrap
  [ -e "/usr/share/debootstrap/scripts/$RELEASE" ] || unavailable "this debootstrap does not know Debian $RELEASE"
  echo "fetching Swift from Debian $RELEASE into $ROOT (2.8 GB, some minutes, once)" >&2
  rm -rf --one-file-system "$partial"
  in_own_namespace debootstrap --variant=minbase --include="$PACKAGES" "$RELEASE" "$partial" "$MIRROR" > "$ROOT.log" 2>&1 ||
    unavailable "Debian $RELEASE could not be fetched; see $ROOT.log"
  rm -f "$partial"/var/cache/apt/archives/*.deb
  echo 'import Foundation; print(Data("Swift".utf8).count)' > "$partial/root/check.swift"
  in_own_namespace bash -c 'mount --bind /proc "$1/proc" && cd / && chroot "$1" bash -c "cd /root && swiftc check.swift && ./check"' - "$partial" \
    >> "$ROOT.log" 2>&1 || unavailable "the Swift of Debian $RELEASE does not work; see $ROOT.log"
  mv "$partial" "$ROOT"
}

run_in_debian() {
  in_own_namespace bash -c '
    set -euo pipefail
    root="$1" where="$PWD" repository="$2" temporary="$3"
    shift 3
    mount --bind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    for folder in "$repository" "$temporary" "$where"; do
      case "$folder" in / | /bin* | /etc* | /lib* | /sbin* | /usr*) continue ;; esac # they would hide its own
      mkdir -p "$root$folder"
      mount --bind "$folder" "$root$folder"
    done
    exec chroot "$root" /usr/bin/env -C "$where" -u XDG_CACHE_HOME HOME=/root LANG=C.UTF-8 "$@"
  ' - "$ROOT" "$REPOSITORY" "$(realpath "${TMPDIR:-/tmp}")" "$@"
}

install=yes
if [ "${1:-}" = --no-install ]; then
  install=no
  shift
fi
if command -v swift > /dev/null; then
  [ $# = 0 ] || exec "$@"
  exit 0
fi
check_machine
if [ ! -d "$ROOT" ]; then
  [ $install = yes ] || unavailable "it is not installed; $0 installs it"
  mkdir -p "$CACHE"
  (
    flock 9 # two at once: the second waits, and finds it
    [ -d "$ROOT" ] || install_swift
  ) 9> "$ROOT.lock"
fi
[ $# = 0 ] || run_in_debian "$@"
