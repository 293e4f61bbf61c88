#!/bin/bash
# Checks this layer: bitbake parses it and plans the image; yocto-check-layer and, if it is
# installed, oelint-adv find no faults.
#
#   check.sh                                         what can be checked without bitbake
#   check.sh OE_CORE BITBAKE META_RASPBERRYPI [BUILD]
#
# The three are working trees of the branches that README.md names. Nothing is built or downloaded.
# Does not run as root: bitbake refuses to.
set -euo pipefail
layer=$(cd "$(dirname "$0")" && pwd)

# Without bitbake: every file that is named must exist, and the versions must be the program's.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$layer/../Cargo.toml" | head -n 1)
[ -f "$layer/recipes-potluck/potluck/potluck_$version.bb" ] || { echo "the recipe's version is not $version, as Cargo.toml has it" >&2; exit 1; }
grep -qx "DISTRO_VERSION = \"$version\"" "$layer/conf/distro/potluck-os.conf" || { echo "the distribution's version is not $version" >&2; exit 1; }
[ -z "$(find "$layer" -xtype l)" ] || { echo "links to nowhere: $(find "$layer" -xtype l)" >&2; exit 1; }
for file in overlay modules config.txt cmdline.txt; do
    [ -e "$layer/../buildroot/board/potluck/$file" ] || { echo "buildroot/board/potluck/$file is gone, and the layer needs it" >&2; exit 1; }
done
# The service does not start without a model, and says where to put one. The potluck here is a fake
# that only reads `file`.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '#!/bin/sh\nsed -n "s/^file = //p" "$4"\n' >"$scratch/potluck"
chmod +x "$scratch/potluck"
has_model() { said=$(PATH=$scratch:$PATH "$layer/recipes-potluck/potluck/files/has-model" "$scratch/potluck.toml" 2>&1); }
grep -qx 'ExecCondition=/usr/libexec/potluck/has-model' "$layer/recipes-potluck/potluck/files/potluck.service"
: >"$scratch/potluck.toml"
if has_model; then echo "has-model finds a model where there is none" >&2; exit 1; fi
case $said in *"put a Gemma 3 model (.gguf) into $scratch"*) ;; *) echo "has-model does not say where a model goes: $said" >&2; exit 1 ;; esac
: >"$scratch/a.gguf"
has_model || { echo "has-model does not find the one beside the settings: $said" >&2; exit 1; }
echo 'file = b.gguf' >"$scratch/potluck.toml"
if has_model; then echo "has-model takes a model that is named and not there" >&2; exit 1; fi
mv "$scratch/a.gguf" "$scratch/b.gguf"
has_model || { echo "has-model does not find the one that is named: $said" >&2; exit 1; }

if [ $# = 0 ]; then
    echo "versions, links and files agree; for the rest: check.sh OE_CORE BITBAKE META_RASPBERRYPI [BUILD]"
    exit
fi
[ $# -ge 3 ] || { echo "usage: check.sh [OE_CORE BITBAKE META_RASPBERRYPI [BUILD]]" >&2; exit 2; }
core=$(realpath "$1") bitbake=$(realpath "$2") raspberrypi=$(realpath "$3")
build=$(realpath -m "${4:-$layer/../target/yocto/check}")
if [ "$(id -u)" = 0 ]; then
    echo "check.sh: bitbake does not run as root: run this as another user" >&2
    exit 1
fi

mkdir -p "$build/conf"
# If there is no firmware, use an empty file instead: nothing is packaged here.
binary=$layer/../target/firmware
if [ ! -f "$binary/potluck" ]; then
    echo "no target/firmware/potluck: this check uses an empty file instead"
    mkdir -p "$build/stand-in"
    : >"$build/stand-in/potluck"
    binary=$build/stand-in
fi
cat >"$build/conf/local.conf" <<CONF
MACHINE = "raspberrypi0-2w-64"
BB_NUMBER_PARSE_THREADS = "1"
BB_NO_NETWORK = "1"
LICENSE_FLAGS_ACCEPTED = "synaptics-killswitch"
POTLUCK_BINARY_DIR = "$(realpath "$binary")"
CONF
layers() { printf 'BBPATH = "${TOPDIR}"\nBBFILES ?= ""\nBBLAYERS = "%s"\n' "$*" >"$build/conf/bblayers.conf"; }

export BITBAKEDIR=$bitbake
cd "$core"
set +u
# shellcheck disable=SC1091
. ./oe-init-build-env "$build" >/dev/null
set -u

layers "$core/meta" "$raspberrypi" "$layer"
echo 'DISTRO = "potluck-os"' >>"$build/conf/local.conf"
bitbake -p
bitbake-layers show-recipes 'potluck*'
bitbake -e potluck >"$build/potluck.env"
# The radios' firmware, with its licence accepted and without.
radios() { bitbake -e potluck-image | sed -n 's/^POTLUCK_RADIOS="\(.*\)"/\1/p'; }
case $(radios) in *bcm43430*rpidistro-bcm43436s*) ;; *) echo "the image lacks firmware of a radio: $(radios)" >&2; exit 1 ;; esac
sed -i 's/^LICENSE_FLAGS_ACCEPTED/#&/' "$build/conf/local.conf"
[ "$(radios)" = linux-firmware-bcm43430 ] || { echo "without the licence the image would carry: $(radios)" >&2; exit 1; }
bitbake -n potluck-image >"$build/plan-unlicensed.log" 2>&1 || { tail -n 20 "$build/plan-unlicensed.log"; exit 1; }
sed -i 's/^#LICENSE_FLAGS_ACCEPTED/LICENSE_FLAGS_ACCEPTED/' "$build/conf/local.conf"
bitbake -n potluck-image >"$build/plan.log" 2>&1 || { tail -n 20 "$build/plan.log"; exit 1; }
grep -m 1 'Summary' "$build/plan.log" || tail -n 2 "$build/plan.log"

# yocto-check-layer insists on adding the layer itself.
layers "$core/meta" "$raspberrypi"
sed -i '/^DISTRO = /d' "$build/conf/local.conf"
yocto-check-layer --dependency "$core/meta" "$raspberrypi" --machines raspberrypi0-2w-64 --no-auto-dependency \
    --output-log "$build/check-layer.log" -- "$layer"

if command -v oelint-adv >/dev/null; then
    # There is no home page to name.
    find "$layer" -name '*.bb' -o -name '*.bbappend' | sort |
        xargs oelint-adv --suppress oelint.var.mandatoryvar.HOMEPAGE --release wrynose --quiet
else
    echo "oelint-adv is not installed (pip install oelint-adv): the recipes were not linted"
fi
