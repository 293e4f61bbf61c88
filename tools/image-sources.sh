#!/bin/sh
# Fetches the sources of the image's packages from a Debian archive, for a machine that can reach
# nothing else. If Debian has the exact file that Buildroot needs, it goes into the download cache,
# and Buildroot checks its hash. If the version differs, or Debian has repacked it, it is unpacked
# and named in DIR/sources.mk, which Buildroot reads as its override file; Buildroot's patches are
# then not applied. Four programs are taken from this machine instead of being built.
#
#   tools/image-sources.sh DIR   leaves DIR/dl, DIR/src and DIR/sources.mk
set -eu
[ $# = 1 ] || { echo "usage: image-sources.sh DIR" >&2; exit 2; }
for need in apt-get apt-cache curl autoreconf patchelf fakeroot bison flex; do
    command -v $need >/dev/null || {
        echo "no $need: apt-get install apt curl autoconf automake libtool patchelf fakeroot bison flex" >&2
        exit 1
    }
done
tools=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/dl" "$1/src" "$1/archive"
dir=$(cd "$1" && pwd)
mirror=$("$tools/debian-mirror.sh")
APT_CONFIG=$("$tools/debian-apt.sh" "$dir/apt-sources" arm64 "deb-src @ trixie main" "deb-src @ bookworm main" \
    "deb @ trixie main non-free-firmware")
export APT_CONFIG

# fetch SOURCE VERSION: prints the path of a source package's upstream archive, and fetches it if
# necessary. Its checksum comes from the Debian archive's index, whose signature apt has checked.
fetch() {
    found=$(apt-cache showsrc --only-source "$1" | awk -v want="$2" '
        /^Directory:/ { dir = $2 }
        /^Checksums-Sha256:/ { files = 1; next }
        /^[^ ]/ { files = 0 }
        files && $3 ~ "_" want "[^_]*\\.orig\\.tar\\.[a-z0-9]+$" { name = $3; sum = $1 }
        /^$/ { if (name) { print sum " " dir "/" name; exit } }
        END { if (name) print sum " " dir "/" name }' | head -n 1)
    [ -n "$found" ] || { echo "the Debian archive has no source of $1 $2" >&2; exit 1; }
    sum=${found%% *} path=${found#* }
    file=$dir/archive/${path##*/}
    [ -s "$file" ] || curl -fsSL --retry 3 -o "$file" "${mirror%/}/$path" || {
        echo "cannot fetch ${path##*/} from the Debian archive" >&2
        exit 1
    }
    echo "$sum  $file" | sha256sum -c --quiet >&2 || {
        rm -f "$file"
        echo "${path##*/} is not what the Debian archive's index says: try again" >&2
        exit 1
    }
    printf '%s\n' "$file"
}
# cached SOURCE VERSION PACKAGE FILE: puts it into the download cache, under Buildroot's name for
# it.
cached() {
    file=$(fetch "$1" "$2")
    mkdir -p "$dir/dl/$3"
    cp "$file" "$dir/dl/$3/$4"
}
# unpacked SOURCE VERSION PACKAGE: unpacks it into DIR/src/PACKAGE.
unpacked() {
    file=$(fetch "$1" "$2")
    rm -rf "$dir/src/$3"
    mkdir -p "$dir/src/$3"
    tar xf "$file" -C "$dir/src/$3" --strip-components=1
}
# borrowed PACKAGE PROGRAM: makes a package whose host program is this machine's own.
borrowed() {
    rm -rf "$dir/src/$1"
    mkdir -p "$dir/src/$1"
    printf '#!/bin/sh\n' >"$dir/src/$1/configure"
    printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v "$2")" >"$dir/src/$1/$2"
    # shellcheck disable=SC2016
    printf 'all:\ninstall:\n\tinstall -D -m 0755 %s $(HOST_DIR)/bin/%s\n' "$2" "$2" >"$dir/src/$1/Makefile"
    chmod +x "$dir/src/$1/configure" "$dir/src/$1/$2"
}

cached busybox 1.37.0 busybox busybox-1.37.0.tar.bz2
cached dosfstools 4.2 dosfstools dosfstools-4.2.tar.gz
cached squashfs-tools 4.6.1 squashfs squashfs-tools-4.6.1.tar.gz
cached lz4 1.10.0 lz4 lz4-1.10.0.tar.gz
cached lzo2 2.10 lzo lzo-2.10.tar.gz

unpacked e2fsprogs 1.47 e2fsprogs
unpacked util-linux 2.41 util-linux
unpacked libnl3 3.7.0 libnl
unpacked wpa 2.10 wpa_supplicant
unpacked iw 5.19 iw
unpacked mdnsd 0.12 mdnsd
(cd "$dir/src/mdnsd" && autoreconf -fi >/dev/null 2>&1)
unpacked pkgconf 1.8 pkgconf
unpacked zlib 1.3 libzlib
unpacked libzstd 1.5 zstd
unpacked xz-utils 5.8 xz

borrowed fakeroot fakeroot
borrowed patchelf patchelf

# Buildroot needs GNU tar 1.35 or later, for reproducible archives.
if ! tar --version | awk 'NR == 1 { split($NF, v, "."); exit !(v[1] > 1 || v[2] >= 35) }'; then
    unpacked tar 1.35 tar
    (
        cd "$dir/src/tar"
        FORCE_UNSAFE_CONFIGURE=1 ./configure -q --prefix="$dir/host"
        make -s
        make -s install
    ) >/dev/null 2>&1
fi

# The regulatory database is signed data, taken as Debian built it, with the signatures of both
# maintainers.
rm -rf "$dir/src/wireless-regdb" "$dir/archive/regdb"
mkdir -p "$dir/src/wireless-regdb" "$dir/archive/regdb"
(cd "$dir/archive/regdb" && apt-get -qq download wireless-regdb && dpkg-deb -x ./*.deb .)
# Use the upstream variant: every kernel has its signer's key.
cp "$dir"/archive/regdb/usr/lib/firmware/regulatory.db-upstream "$dir/src/wireless-regdb/regulatory.db"
cp "$dir"/archive/regdb/usr/lib/firmware/regulatory.db.p7s-upstream "$dir/src/wireless-regdb/regulatory.db.p7s"

cat >"$dir/sources.mk" <<MK
# Written by tools/image-sources.sh.
E2FSPROGS_OVERRIDE_SRCDIR = $dir/src/e2fsprogs
UTIL_LINUX_OVERRIDE_SRCDIR = $dir/src/util-linux
LIBNL_OVERRIDE_SRCDIR = $dir/src/libnl
WPA_SUPPLICANT_OVERRIDE_SRCDIR = $dir/src/wpa_supplicant
IW_OVERRIDE_SRCDIR = $dir/src/iw
MDNSD_OVERRIDE_SRCDIR = $dir/src/mdnsd
WIRELESS_REGDB_OVERRIDE_SRCDIR = $dir/src/wireless-regdb
HOST_PKGCONF_OVERRIDE_SRCDIR = $dir/src/pkgconf
HOST_LIBZLIB_OVERRIDE_SRCDIR = $dir/src/libzlib
HOST_ZSTD_OVERRIDE_SRCDIR = $dir/src/zstd
HOST_XZ_OVERRIDE_SRCDIR = $dir/src/xz
HOST_FAKEROOT_OVERRIDE_SRCDIR = $dir/src/fakeroot
HOST_PATCHELF_OVERRIDE_SRCDIR = $dir/src/patchelf

# Without Buildroot's patches nothing has to be regenerated, so neither the autotools nor their
# dependencies are built.
override E2FSPROGS_AUTORECONF = NO
override E2FSPROGS_DEPENDENCIES = host-pkgconf util-linux
override UTIL_LINUX_AUTORECONF = NO
override LIBNL_DEPENDENCIES = host-pkgconf
override HOST_FAKEROOT_DEPENDENCIES =
MK
cat >>"$dir/sources.mk" <<'MK'

# Unpacked sources skip the step in which Buildroot patches libtool for cross-compilation.
UTIL_LINUX_PRE_CONFIGURE_HOOKS += LIBTOOL_PATCH_HOOK
LIBNL_PRE_CONFIGURE_HOOKS += LIBTOOL_PATCH_HOOK
MK
