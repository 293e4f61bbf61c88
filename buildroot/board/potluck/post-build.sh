#!/bin/sh
# Finishes the root file system before it is packed. Buildroot calls it with the root's path, and
# sets BUILD_DIR, BR2_CONFIG and so on.
set -eu
target=$1
here=$(cd "$(dirname "$0")" && pwd)

# Mount points of other file systems.
for dir in boot data dev proc run sys tmp var root; do mkdir -p "$target/$dir"; done

# Only our own init scripts: Buildroot's start things that the board does not have or does
# differently.
for script in "$target"/etc/init.d/*; do
    name=${script##*/}
    [ -e "$here/overlay/etc/init.d/$name" ] || rm -f "$script"
done
rm -rf "$target/etc/network" "$target/etc/mdns.d"/*

# Disable password logins on every line.
sed -i 's/^root:[^:]*:/root:*:/' "$target/etc/shadow"

# Programs that nothing here calls, and files that only a build needs.
for file in usr/bin/iconv usr/sbin/e2scrub usr/sbin/e2scrub_all usr/bin/compile_et usr/bin/mk_cmds etc/e2scrub.conf \
    usr/bin/mquery usr/share/bash-completion usr/share/et usr/share/ss etc/init.d/rc.local; do
    rm -rf "${target:?}/$file"
done

# The settings that apply if the card has none, and the file that a new card starts with: the
# program's defaults, plus what this board has and a PC does not.
settings=$target/usr/share/potluck/potluck.toml
mkdir -p "$(dirname "$settings")"
if [ -n "${POTLUCK_HOST:-}" ]; then
    "$POTLUCK_HOST" config default >"$settings"
elif command -v qemu-aarch64 >/dev/null; then
    qemu-aarch64 "$target/usr/bin/potluck" config default >"$settings"
else
    echo "potluck.toml cannot be written: set POTLUCK_HOST to a potluck of this machine (make build), or install qemu-user" >&2
    exit 1
fi
sed -i 's|^#state = "/data"|state = "/data"|' "$settings"
grep -q '^state = "/data"' "$settings" || {
    echo "the default potluck.toml no longer offers state = \"/data\": fix buildroot/board/potluck/post-build.sh" >&2
    exit 1
}

# The kernel must have the options that the fragments require.
fragments="$here/linux.config $here/linux-own.config"
! grep -q 'linux-virt.config' "$BR2_CONFIG" || fragments="$fragments $here/linux-virt.config"
if grep -q '^BR2_LINUX_KERNEL=y' "$BR2_CONFIG"; then
    # shellcheck disable=SC2086
    "$here/linux-check.sh" "$BUILD_DIR"/linux-custom/.config $fragments
    version=$(cat "$BUILD_DIR"/linux-custom/include/config/kernel.release)
    # If only the binary is new, the modules in this root are pruned already.
    echo "modules kept: $("$here/prune-modules.sh" "$target/lib/modules/$version" "$here/modules")"
    "$HOST_DIR/sbin/depmod" -b "$target" "$version"
else
    kernel=${POTLUCK_DEBIAN:?must name the folder that tools/image-kernel.sh filled}/kernel
    "$here/linux-check.sh" --modules "$kernel/config" "$here/linux.config" "$here/linux-virt.config"
    version=$(cat "$kernel/version")
    rm -rf "$target/lib/modules"
    mkdir -p "$target/lib/modules" "$target/lib/firmware"
    cp -a "$kernel/modules/lib/modules/$version" "$target/lib/modules/"
    cp -a "$kernel/firmware/." "$target/lib/firmware/"
fi
# Modules that are not loaded automatically, if they are modules in this kernel.
sed -n 's/^\([^# ]*\) load$/\1/p' "$here/modules" >"$target/etc/modules"

# The version, for the command `version` and for anybody who finds a card.
cat >"$target/etc/os-release" <<OS
NAME=potluck
ID=potluck
PRETTY_NAME="potluck on Linux $version, Buildroot ${BR2_VERSION:-}"
VERSION_ID="$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../../Cargo.toml" | head -n 1)"
OS
