#!/usr/bin/env bash
# Installs Swift 6 (Debian trixie's swiftlang) and ONNX Runtime's C header into a folder beside the
# system: install-swift.sh [FOLDER]. The system's own packages stay as they are. A second run finds
# the folder complete and does nothing; a broken one is made anew. While it works it holds the lock
# FOLDER.lock, for which `swift.sh available` waits, and a second installation too.
set -euo pipefail

root=${1:-$(dirname "$0")/../../build/swift}
suite=trixie
packages=(swiftlang libc6-dev libstdc++-14-dev git)
# None of these is needed to build, test or run: a third of what the packages would fill.
excluded=(
    '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*'
    '*/lldb-server' '*/liblldb.so*' '*/libsourcekitdInProc.so' '*/clangd' '*/swift_static/*'
)

fail() { echo "make swift: error: $*" >&2; exit 2; }

[ -e "$root/.ready" ] && { echo "$root: Swift is installed"; exit 0; }
[ "$(uname -s)" = Linux ] || fail "for Linux only; on macOS install Xcode, which brings Swift"
[ "$(id -u)" = 0 ] || fail "needs root, to fill a folder with debootstrap; run it with sudo"
command -v debootstrap >/dev/null \
    || fail "needs debootstrap; install it (apt-get install debootstrap debian-archive-keyring)"

mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
[ -e "$root/.ready" ] && { echo "$root: Swift is installed"; exit 0; }

# A Debian machine knows a mirror that it can reach; elsewhere Debian's own is asked.
mirror=
if grep -qx 'ID=debian' /etc/os-release; then
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# What a step prints matters only when it fails: its last line then says why.
step() { "$@" >"$log" 2>&1 || fail "$(printf '%s' "$*" | cut -c-80) failed: $(tail -1 "$log")"; }
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }

echo "$root: installing Swift 6 (two to three minutes, 2 GB)"
rm -rf --one-file-system "$root"
mkdir -p "$root"
root=$(realpath "$root")
step debootstrap --variant=minbase "$suite" "$root" "${mirror:-http://deb.debian.org/debian}"
# The machine's own settings for apt (a proxy, say) hold inside too.
cp /etc/apt/apt.conf.d/9* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
printf 'path-exclude=%s\n' "${excluded[@]}" >"$root/etc/dpkg/dpkg.cfg.d/small"
step inside apt-get update -qq
step inside apt-get install -yqq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
    "${packages[@]}"
# The header alone: the library is the one that the Python package brings.
step inside sh -c 'cd /tmp && apt-get download -qq libonnxruntime-dev \
    && dpkg -x libonnxruntime-dev_*.deb / && rm libonnxruntime-dev_*.deb'
step inside apt-get clean
touch "$root/.ready"
echo "$root: swiftlang $(inside dpkg-query -W -f '${Version}' swiftlang), $(du -sh "$root" | cut -f1)"
