#!/usr/bin/env bash
# Runs the package's Swift: the one of `make swift` in its folder on Linux, Xcode's on macOS.
#
#   swift.sh available         exit code 0, or 1 and one line that says why not; waits for an
#                              installation that is under way, a quarter of an hour at most
#   swift.sh build             everything that this system can build, tests included
#   swift.sh test ARG...       the tests; ARG as for `swift test`
#   swift.sh typecheck FILE... files of a module against what `swift.sh build` left
#   swift.sh demo ARG...       lpa-demo, as `swift.sh build` left it
#
# SWIFT_ROOT names the folder of the toolchain (build/swift), ORT_LIBRARY the shared library of
# ONNX Runtime (the one of the Python package in PYTHON, by default .venv/bin/python). On Linux any user
# may run this who may make namespaces; the toolchain's folder is read only.
set -euo pipefail

# The shell's own means only: each process started here would delay lpa-demo's first text.
here=${0%/*}
[ -d "$here" ] || here=.
package=$(cd "$here/.." && pwd -P)
repository=${package%/*}
root=${SWIFT_ROOT:-$repository/build/swift}
[[ $root == /* ]] || root=$PWD/$root
case $OSTYPE in darwin*) on_macos=true ;; *) on_macos=false ;; esac
runtime=$package/.build/onnxruntime
# Where Swift keeps what it made of Package.swift.
home=$package/.build/home
namespace=(unshare --mount)
[ "$EUID" = 0 ] || namespace=(unshare --map-root-user --mount)
# One configuration for tests and programs: everything is compiled once.
options=(-c release -Xswiftc -enable-testing)
# Read when the library loads: without it ONNX Runtime keeps a device id under the home folder.
export ORT_DISABLE_TELEMETRY=1

explain() { echo "ios_demo: not run, because $*"; }

available() {
    if $on_macos; then
        command -v swift >/dev/null || { explain "there is no Swift; install Xcode"; return 1; }
    else
        # An installation under way holds it.
        [ -e "$root/.ready" ] || [ ! -e "$root.lock" ] || flock --shared --timeout 900 "$root.lock" true || true
        [ -e "$root/.ready" ] || { explain "there is no Swift in $root; 'make swift' puts it there"; return 1; }
        command -v unshare >/dev/null || { explain "unshare (package util-linux) is missing"; return 1; }
        "${namespace[@]}" true 2>/dev/null \
            || { explain "this machine lets $(id -un) make no namespace of mounts; run as root"; return 1; }
    fi
}

# Where lpa-demo looks for the library.
provide_onnxruntime() {
    local library=${ORT_LIBRARY:-}
    if [ -z "$library" ]; then
        local python=${PYTHON:-$repository/.venv/bin/python}
        [ -x "$python" ] \
            || { echo "ios_demo: error: cannot run $python for its ONNX Runtime; set PYTHON or ORT_LIBRARY" >&2; exit 2; }
        library=$("$python" -c '
import importlib.util, pathlib
folder = pathlib.Path(importlib.util.find_spec("onnxruntime").origin).parent / "capi"
print(next(folder.glob("libonnxruntime.so.1*")))' 2>/dev/null) \
            || { echo "ios_demo: error: $python has no onnxruntime; set PYTHON or ORT_LIBRARY" >&2; exit 2; }
    fi
    mkdir -p "$runtime"
    ln -sfn "$(realpath "$library")" "$runtime/libonnxruntime.so.1"
}

# The toolchain's files around the repository, which lies at its own path inside too, so that paths
# mean the same on both sides. The root is a file system in memory, put together in a namespace of
# mounts: nothing is written into the toolchain's folder and nothing is left behind.
inside() {
    mkdir -p "$home"
    exec "${namespace[@]}" bash -ec '
        root=$1 repository=$2 package=$3 home=$4; shift 4
        new=$root/mnt
        mount --make-rprivate /
        mount -t tmpfs tmpfs "$new"
        cp -P "$root"/{bin,lib*,sbin} "$new"
        mkdir "$new"/tmp
        for place in /usr /etc; do mkdir "$new$place"; mount --rbind "$root$place" "$new$place"; done
        for place in /proc /dev "$repository"; do
            mkdir -p "$new$place"
            mount --rbind "$place" "$new$place"
        done
        exec chroot "$new" env HOME="$home" TMPDIR=/tmp LC_ALL=C.UTF-8 \
            sh -c "cd \"\$0\" && exec \"\$@\"" "$package" "$@"
    ' inside "$root" "$repository" "$package" "$home" "$@"
}

swift_of_this_system() {
    if $on_macos; then
        cd "$package"
        exec swift "$@" "${options[@]}"
    fi
    provide_onnxruntime
    # @Observable does not link with the toolchain's default linker.
    inside swift "$@" "${options[@]}" -Xswiftc -use-ld=lld -Xlinker "-rpath=$runtime"
}

command=${1:?available, build, test, typecheck or demo}
shift
case $command in
    available) available ;;
    build)
        available >&2 || exit 2
        swift_of_this_system build --build-tests "$@"
        ;;
    test)
        available >&2 || exit 2
        swift_of_this_system test "$@"
        ;;
    typecheck)
        available >&2 || exit 2
        # As a whole: else the first file with an error hides those of the others.
        inside swiftc -typecheck -wmo -swift-version 6 -parse-as-library \
            -I "$package/.build/release/Modules" "$@"
        ;;
    demo)
        program=$package/.build/release/lpa-demo
        [ -x "$program" ] || { echo "ios_demo: error: $program: not built; 'make ios' builds it" >&2; exit 2; }
        $on_macos && exec "$program" "$@"
        # By the toolchain's own loader, outside its folder: all files of the machine are in reach.
        loader=("$root"/usr/lib/*-linux-gnu/ld-linux-*.so.*)
        [ -x "${loader[0]}" ] || { explain "there is no Swift in $root; set SWIFT_ROOT" >&2; exit 2; }
        exec "${loader[0]}" --argv0 lpa-demo \
            --library-path "$root/usr/libexec/swift/lib/swift/linux:${loader[0]%/*}" "$program" "$@"
        ;;
    *) echo "swift.sh: error: unknown command '$command'" >&2; exit 2 ;;
esac
