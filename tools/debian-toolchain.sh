#!/bin/sh
# Unpacks a cross toolchain for aarch64 into DIR where there is no Docker: Debian's packages of rustc, of the standard library
# for both architectures and of the aarch64 C compiler. Nothing is installed, and no privilege is needed: apt works on a root of
# its own, and dpkg only unpacks. The cargo that drives it is the machine's. About 3 minutes, 1.6 GB.
# Needs a Debian 12 or later on x86-64. rustc comes from the suite that tools/debian-rust.sh chooses; ends with 69 where the
# archive has no toolchain to unpack.
#
#   tools/debian-toolchain.sh DIR   leaves DIR/bin/rustc, DIR/bin/aarch64-linux-gnu-gcc and the binutils beside them
set -eu
cd "$(dirname "$0")"
[ $# = 1 ] || { echo "usage: debian-toolchain.sh DIR" >&2; exit 2; }
none() { echo "debian-toolchain: $*" >&2; exit 69; }
for need in apt-get dpkg dpkg-deb; do
    command -v $need >/dev/null || none "no $need: this way needs a Debian machine; install Docker instead"
done

rm -rf "$1"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
mkdir -p "$dir/rust" "$dir/gcc" "$dir/bin"
./debian-rust.sh "$dir/apt" >/dev/null || exit
apt=$dir/apt
mkdir -p "$apt/rust" "$apt/gcc"

# rustc and what it loads: what apt would install it with, on a machine that has nothing.
(
    export APT_CONFIG="$apt/apt.conf"
    apt-get -qq --print-uris --yes install rustc libstd-rust-dev libstd-rust-dev:arm64 |
        sed -n "s/^'[^']*' \([^_]*\)_[^ ]*_\([a-z0-9]*\)\.deb .*/\1:\2/p" |
        grep -E '^(rustc|libstd-rust|lib(llvm|c6|gcc-s1|stdc|z|xml2|tinfo|ffi|edit|bsd|md|lzma|icu)).*' |
        sed 's/:all$//' >"$apt/wanted"
    cd "$apt/rust"
    # shellcheck disable=SC2046
    apt-get -qq download $(cat "$apt/wanted")
) || none "the packages of rustc cannot be fetched"
for deb in "$apt"/rust/*.deb; do dpkg-deb -x "$deb" "$dir/rust"; done

# The C compiler runs on this machine's own libc, so it comes from this machine's own suite.
(
    cd "$apt/gcc"
    # shellcheck disable=SC2046
    apt-get -qq download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances gcc-aarch64-linux-gnu libc6-dev-arm64-cross | grep -E '^[a-z].*(aarch64|arm64-cross|cross-base)' |
        sort -u)
) || none "the packages of the aarch64 C compiler cannot be fetched"
for deb in "$apt"/gcc/*.deb; do dpkg-deb -x "$deb" "$dir/gcc"; done

# rustc runs on the libraries that it came with, through their own loader: this machine's may be older.
libs=$dir/rust/usr/lib/x86_64-linux-gnu
cat >"$dir/bin/rustc" <<END
#!/bin/sh
exec $libs/ld-linux-x86-64.so.2 --library-path $libs --argv0 $dir/rust/usr/bin/rustc $dir/rust/usr/bin/rustc "\$@"
END
for tool in gcc strip objdump readelf; do
    cat >"$dir/bin/aarch64-linux-gnu-$tool" <<END
#!/bin/sh
LD_LIBRARY_PATH=$dir/gcc/usr/lib/x86_64-linux-gnu:$dir/gcc/usr/lib exec $dir/gcc/usr/bin/aarch64-linux-gnu-$tool "\$@"
END
done
chmod +x "$dir"/bin/*
"$dir/bin/rustc" --version
rm -rf "$apt"
