#!/bin/sh
# Unpacks a cross toolchain for aarch64 into DIR where there is no Docker: Debian's packages of rustc, of the standard library
# for both architectures and of the aarch64 C compiler. Nothing is installed, and no privilege is needed: apt works on a root of
# its own, and dpkg only unpacks. The cargo that drives it is the machine's. About 3 minutes, 1.6 GB.
# Needs a Debian 12 or later on x86-64.
#
#   tools/debian-toolchain.sh DIR   leaves DIR/bin/rustc, DIR/bin/aarch64-linux-gnu-gcc and the binutils beside them
set -eu
cd "$(dirname "$0")"
[ $# = 1 ] || { echo "usage: debian-toolchain.sh DIR" >&2; exit 2; }
for need in apt-get dpkg dpkg-deb; do
    command -v $need >/dev/null || { echo "no $need: this way needs a Debian machine; install Docker instead" >&2; exit 1; }
done

mirror=$(./debian-mirror.sh)
suite=trixie
rm -rf "$1"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
apt=$dir/apt
mkdir -p "$apt/etc/apt.conf.d" "$apt/etc/preferences.d" "$apt/etc/trusted.gpg.d" "$apt/lists/partial" \
    "$apt/cache/archives/partial" "$apt/rust" "$apt/gcc" "$dir/rust" "$dir/gcc" "$dir/bin"
: >"$apt/status"

# An apt that knows two suites, two architectures and no installed package, and reaches the archive as the machine's does.
cat >"$apt/etc/sources.list" <<EOF
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite-backports main
EOF
{
    apt-config dump Acquire --format '%f "%v";%n' | grep -E '^Acquire::(http|https|Retries)' || true
    cat <<EOF
Dir::Etc "$apt/etc"; Dir::Etc::Parts "apt.conf.d"; Dir::Etc::SourceList "sources.list"; Dir::Etc::SourceParts "-";
Dir::State::Lists "$apt/lists"; Dir::State::Status "$apt/status"; Dir::Cache "$apt/cache";
APT::Architecture "amd64"; APT::Architectures { "amd64"; "arm64"; };
APT::Default-Release "$suite-backports"; APT::Install-Recommends "false"; Acquire::Languages "none";
APT::Sandbox::User "";
EOF
} >"$apt/apt.conf"

# rustc and what it loads: what apt would install it with, on a machine that has nothing.
(
    export APT_CONFIG="$apt/apt.conf"
    apt-get -qq update
    apt-get -qq --print-uris --yes install rustc libstd-rust-dev libstd-rust-dev:arm64 |
        sed -n "s/^'[^']*' \([^_]*\)_[^ ]*_\([a-z0-9]*\)\.deb .*/\1:\2/p" |
        grep -E '^(rustc|libstd-rust|lib(llvm|c6|gcc-s1|stdc|z|xml2|tinfo|ffi|edit|bsd|md|lzma|icu)).*' |
        sed 's/:all$//' >"$apt/wanted"
    cd "$apt/rust"
    # shellcheck disable=SC2046
    apt-get -qq download $(cat "$apt/wanted")
)
for deb in "$apt"/rust/*.deb; do dpkg-deb -x "$deb" "$dir/rust"; done

# The C compiler runs on this machine's own libc, so it comes from this machine's own suite.
(
    cd "$apt/gcc"
    # shellcheck disable=SC2046
    apt-get -qq download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances gcc-aarch64-linux-gnu libc6-dev-arm64-cross | grep -E '^[a-z].*(aarch64|arm64-cross|cross-base)' |
        sort -u)
)
for deb in "$apt"/gcc/*.deb; do dpkg-deb -x "$deb" "$dir/gcc"; done

# rustc runs on the libraries that it came with, through their own loader: this machine's may be older.
libs=$dir/rust/usr/lib/x86_64-linux-gnu
cat >"$dir/bin/rustc" <<EOF
#!/bin/sh
exec $libs/ld-linux-x86-64.so.2 --library-path $libs --argv0 $dir/rust/usr/bin/rustc $dir/rust/usr/bin/rustc "\$@"
EOF
for tool in gcc strip objdump readelf; do
    cat >"$dir/bin/aarch64-linux-gnu-$tool" <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$dir/gcc/usr/lib/x86_64-linux-gnu:$dir/gcc/usr/lib exec $dir/gcc/usr/bin/aarch64-linux-gnu-$tool "\$@"
EOF
done
chmod +x "$dir"/bin/*
rm -rf "$apt"
"$dir/bin/rustc" --version
