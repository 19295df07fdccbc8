#!/usr/bin/env bash
# Runs the package's Swift: the one of `make swift` in its folder on Linux, Xcode's on macOS.
#
#   swift.sh available         exit code 0, or 1 and one line that says why not
#   swift.sh build             everything that this system can build, tests included
#   swift.sh test ARG...       the tests; ARG as for `swift test`
#   swift.sh typecheck FILE... files of a module against what `swift.sh build` left
#   swift.sh demo ARG...       lpa-demo, as `swift.sh build` left it
#
# SWIFT_ROOT names the folder of the toolchain (build/swift), ORT_LIBRARY the shared library of
# ONNX Runtime (the one of the Python package in PYTHON, by default .venv/bin/python).
set -euo pipefail

package=$(realpath "$(dirname "$0")/..")
repository=$(dirname "$package")
root=$(realpath -m "${SWIFT_ROOT:-$repository/build/swift}")
runtime=$package/.build/onnxruntime
# One configuration for tests and programs: everything is compiled once.
options=(-c release -Xswiftc -enable-testing)
# Read when the library loads: without it ONNX Runtime keeps a device id under the home folder.
export ORT_DISABLE_TELEMETRY=1

explain() { echo "ios_demo: not run, because $*"; }

available() {
    if [ "$(uname -s)" = Darwin ]; then
        command -v swift >/dev/null || { explain "there is no Swift; install Xcode"; return 1; }
    else
        [ -e "$root/.ready" ] || { explain "there is no Swift in $root; 'make swift' puts it there"; return 1; }
        command -v unshare >/dev/null || { explain "unshare (package util-linux) is missing"; return 1; }
    fi
}

# A folder with the library under the two names by which it is linked and loaded.
provide_onnxruntime() {
    local library=${ORT_LIBRARY:-}
    if [ -z "$library" ]; then
        local python=${PYTHON:-$repository/.venv/bin/python}
        library=$("$python" -c '
import importlib.util, pathlib
folder = pathlib.Path(importlib.util.find_spec("onnxruntime").origin).parent / "capi"
print(next(folder.glob("libonnxruntime.so.1*")))' 2>/dev/null) \
            || { echo "ios_demo: error: no ONNX Runtime library in $python; set ORT_LIBRARY or PYTHON" >&2; exit 2; }
    fi
    mkdir -p "$runtime"
    if ! [ "$runtime/libonnxruntime.so.1" -nt "$library" ]; then
        cp "$library" "$runtime/libonnxruntime.so.1"
        touch "$runtime/libonnxruntime.so.1"
    fi
    ln -sf libonnxruntime.so.1 "$runtime/libonnxruntime.so"
}

# The repository lies at its own path inside too, so that paths mean the same on both sides.
# Mounts live in a namespace of their own: none is left behind.
inside() {
    local namespace=(unshare --mount)
    [ "$(id -u)" = 0 ] || namespace=(unshare --map-root-user --mount)
    mkdir -p "$root$repository"
    exec "${namespace[@]}" bash -c '
        root=$1 repository=$2 package=$3; shift 3
        mount --make-rprivate /
        for place in /proc /dev "$repository"; do mount --rbind "$place" "$root$place"; done
        exec chroot "$root" env HOME=/root LC_ALL=C.UTF-8 sh -c "cd \"\$0\" && exec \"\$@\"" "$package" "$@"
    ' inside "$root" "$repository" "$package" "$@"
}

swift_of_this_system() {
    if [ "$(uname -s)" = Darwin ]; then
        cd "$package"
        exec swift "$@" "${options[@]}"
    fi
    provide_onnxruntime
    # @Observable does not link with the toolchain's default linker.
    inside swift "$@" "${options[@]}" -Xswiftc -use-ld=lld -Xlinker "-L$runtime" -Xlinker "-rpath=$runtime"
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
        inside swiftc -typecheck -swift-version 6 -parse-as-library \
            -I "$package/.build/release/Modules" "$@"
        ;;
    demo)
        program=$package/.build/release/lpa-demo
        [ -x "$program" ] || { echo "ios_demo: error: $program: not built; 'make ios' builds it" >&2; exit 2; }
        [ "$(uname -s)" = Darwin ] && exec "$program" "$@"
        # By the toolchain's own loader, outside its folder: all files of the machine are in reach.
        libraries=$root/usr/libexec/swift/lib/swift/linux:$(echo "$root"/usr/lib/*-linux-gnu)
        exec "$root"/usr/lib/*-linux-gnu/ld-linux-*.so.* --argv0 lpa-demo \
            --library-path "$libraries" "$program" "$@"
        ;;
    *) echo "swift.sh: error: unknown command '$command'" >&2; exit 2 ;;
esac
