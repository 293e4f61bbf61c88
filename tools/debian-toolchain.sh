#!/bin/sh
# Unpacks a cross toolchain for aarch64 into DIR, for machines without Docker: Debian's packages of
# rustc, of the standard library for both architectures and of the aarch64 C compiler. Nothing is
# installed, and no privileges are needed: apt works in a separate root, and dpkg only unpacks.
# cargo is the machine's. Takes about 3 minutes and 1.6 GB. Needs Debian 12 or later on x86-64.
# rustc comes from the suite that tools/debian-rust.sh chooses. Exits with 69 if the archive has no
# suitable toolchain.
#
#   tools/debian-toolchain.sh DIR   leaves DIR/bin/rustc, DIR/bin/aarch64-linux-gnu-gcc and binutils
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

# rustc and its dependencies: what apt would install on an empty machine.
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

# The C compiler runs with this machine's libc, so it comes from this machine's suite.
(
    cd "$apt/gcc"
    # shellcheck disable=SC2046
    apt-get -qq download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances gcc-aarch64-linux-gnu libc6-dev-arm64-cross | grep -E '^[a-z].*(aarch64|arm64-cross|cross-base)' |
        sort -u)
) || none "the packages of the aarch64 C compiler cannot be fetched"
for deb in "$apt"/gcc/*.deb; do dpkg-deb -x "$deb" "$dir/gcc"; done

# rustc runs with the libraries of its own suite, through their loader: this machine's may be older.
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
