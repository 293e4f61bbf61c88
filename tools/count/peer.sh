#!/bin/sh
# Builds tools/bench-peer, and llama.cpp with it, for the board's processor: -O3 -march=armv8-a,
# which is how llama.cpp's own build system makes a build that runs on every 64-bit ARM. For
# tools/count/count.sh, which counts what it executes. Needs, of Debian, g++-aarch64-linux-gnu,
# cmake, clang and libclang-dev; and a rustc that has the board's standard library: rustup's (rustup
# target add aarch64-unknown-linux-gnu), or else the one that tools/debian-toolchain.sh unpacks into
# the target folder.
#
#   tools/count/peer.sh     prints the program's path
# Environment: CARGO_TARGET_DIR as for cargo, JOBS (compilers at once), CARGO.
set -eu
cd "$(dirname "$0")/../.."

target=aarch64-unknown-linux-gnu
cargo=${CARGO:-cargo}
target_dir=${CARGO_TARGET_DIR:-target}
case $target_dir in /*) ;; *) target_dir=$(pwd)/$target_dir ;; esac

fail() { echo "count-peer: $*" >&2; exit 1; }
for need in aarch64-linux-gnu-g++:g++-aarch64-linux-gnu cmake:cmake clang:clang; do
    command -v "${need%%:*}" >/dev/null || fail "no ${need%%:*}: apt-get install ${need##*:} libclang-dev"
done
if [ ! -d "$(rustc --print target-libdir --target $target)" ]; then
    [ -e "$target_dir/tools/debian/bin/rustc" ] || tools/debian-toolchain.sh "$target_dir/tools/debian" >&2 || exit
    export RUSTC="$target_dir/tools/debian/bin/rustc"
fi
# Instead of .cargo/config.toml's flags, and not beside them: the crate's build script would take
# the name of a processor for that of an architecture. Linked with the cross compiler's own
# libraries, for its libstdc++ is a shared one.
export RUSTFLAGS="-Ctarget-feature=-crt-static" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-g++
export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu=-I/usr/aarch64-linux-gnu/include
cd tools/bench-peer
"$cargo" build --release --locked --target $target --target-dir "$target_dir/count-peer" ${JOBS:+--jobs "$JOBS"} >&2
echo "$target_dir/count-peer/$target/release/bench-peer"
