#!/bin/sh
# Turns Debian's aarch64 cross compiler into an "external toolchain" that Buildroot accepts:
# DIR/bin/aarch64-linux-gnu-*, and DIR/sysroot with the C library, its headers, the kernel's headers
# and libgcc. Installs nothing; the packages must be installed already.
#
#   tools/image-toolchain.sh DIR
set -eu
[ $# = 1 ] || { echo "usage: image-toolchain.sh DIR" >&2; exit 2; }
tuple=aarch64-linux-gnu
packages="libc6-arm64-cross libc6-dev-arm64-cross linux-libc-dev-arm64-cross libgcc-s1-arm64-cross"
# shellcheck disable=SC2086
dpkg -s gcc-$tuple binutils-$tuple $packages >/dev/null 2>&1 || {
    echo "the cross compiler is missing: apt-get install gcc-$tuple libc6-dev-arm64-cross" >&2
    exit 1
}

rm -rf "$1"
mkdir -p "$1/bin" "$1/sysroot/usr/lib" "$1/sysroot/usr/include"
dir=$(cd "$1" && pwd)
ln -s usr/lib "$dir/sysroot/lib"
ln -s usr/lib "$dir/sysroot/lib64"
ln -s lib "$dir/sysroot/usr/lib64"

# Debian keeps the target's files below /usr/TUPLE; Buildroot needs them at their paths on the
# target.
# shellcheck disable=SC2086
dpkg -L $packages | sort -u | while read -r file; do
    case $file in
    /usr/$tuple/lib/* | /usr/$tuple/include/*) to=$dir/sysroot/usr/${file#"/usr/$tuple/"} ;;
    *) continue ;;
    esac
    if [ -d "$file" ] && [ ! -L "$file" ]; then
        mkdir -p "$to"
    else
        mkdir -p "$(dirname "$to")"
        cp -P "$file" "$to"
    fi
done

# Linker scripts name files by their paths on this machine. With bare names, the linker finds them
# in the sysroot.
for script in "$dir"/sysroot/usr/lib/lib*.so; do
    if [ ! -L "$script" ] && head -c 300 "$script" | grep -q 'GNU ld script'; then
        sed -i "s#/usr/$tuple/lib/##g" "$script"
    fi
done

for tool in ar as ld ld.bfd nm objcopy objdump ranlib readelf strip strings addr2line size c++filt elfedit \
    gcc-ar gcc-nm gcc-ranlib gcov; do
    if [ -x "/usr/bin/$tuple-$tool" ]; then ln -s "/usr/bin/$tuple-$tool" "$dir/bin/$tuple-$tool"; fi
done

# Wraps the compiler, to set its sysroot. Buildroot refuses a compiler that was configured with
# --with-sysroot=/, looks for libc.a at the path that the compiler prints, and builds OpenMP
# programs if it can, which would need a library that is missing here.
wrap() { # wrap TOOL
    cat >"$dir/bin/$tuple-$1" <<WRAPPER
#!/bin/bash
sysroot=\$(readlink -f "\$(dirname "\$(readlink -f "\$0")")/../sysroot")
for argument in "\$@"; do
    case \$argument in
    -print-file-name=libc.a) echo "\$sysroot/usr/lib/libc.a"; exit ;;
    -fopenmp) echo "this toolchain has no OpenMP" >&2; exit 1 ;;
    -v) exec /usr/bin/$tuple-$1 --sysroot="\$sysroot" "\$@" 2> >(sed 's# --with-sysroot=/ # #' >&2) ;;
    esac
done
exec /usr/bin/$tuple-$1 --sysroot="\$sysroot" "\$@"
WRAPPER
    chmod +x "$dir/bin/$tuple-$1"
}
wrap gcc
wrap cpp
