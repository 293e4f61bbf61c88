#!/bin/sh
# Checks the board's binary from tools/firmware.sh: its checksum; that it is one static aarch64 file
# of at most 16 MB without instructions that the board lacks; and that, in an emulator of the
# board's processor, its output is bit for bit that of this machine's binary. Needs Debian's
# binutils, binutils-aarch64-linux-gnu and qemu-user.
#
#   tools/firmware-check.sh HOST MODEL.gguf [REAL.gguf]
#       HOST is this machine's potluck, of the same commit;
#       REAL is a large model, of which a few tokens are compared
# Environment: CARGO_TARGET_DIR as for cargo.
set -eu
cd "$(dirname "$0")/.."
case $# in 2 | 3) ;; *) echo "usage: firmware-check.sh HOST MODEL.gguf [REAL.gguf]" >&2; exit 2 ;; esac

host=$1
model=$2
real=${3:-}
target_dir=${CARGO_TARGET_DIR:-target}
firmware=$target_dir/firmware/potluck
# RAM is the board's scarcest resource, and the image's root takes some of it.
most_bytes=16000000

fail() { echo "firmware-check: $*" >&2; exit 1; }
ok() { echo "ok    $*"; }
[ -e "$firmware" ] || fail "no $firmware: make firmware"
PATH=$PATH:$(cd "$target_dir" && pwd)/tools/debian/bin
for need in readelf:binutils aarch64-linux-gnu-objdump:binutils-aarch64-linux-gnu qemu-aarch64:qemu-user; do
    command -v "${need%%:*}" >/dev/null || fail "no ${need%%:*}: apt-get install ${need##*:}"
done

(cd "$target_dir/firmware" && sha256sum --check --quiet potluck.sha256) || fail "$firmware is not what its checksum says"
ok "sha256 $(cut -d' ' -f1 "$firmware.sha256")"

bytes=$(wc -c <"$firmware")
[ "$bytes" -le $most_bytes ] || fail "$firmware has $bytes bytes, more than $most_bytes"
ok "$bytes bytes, of $most_bytes"

readelf --file-header "$firmware" | grep -q 'Machine: *AArch64' || fail "$firmware is not for aarch64"
if readelf --wide --program-headers "$firmware" | grep -q 'INTERP'; then fail "$firmware asks for a loader"; fi
if readelf --wide --dynamic "$firmware" | grep -q 'NEEDED'; then fail "$firmware asks for a library"; fi
ok "aarch64, static: no loader, no library"

# The instructions are read from the copy that still has symbols, so its code must be equal.
code_of() {
    # shellcheck disable=SC2046
    set -- "$1" $(readelf --wide --section-headers "$1" |
        sed -n 's/.* \.text  *PROGBITS  *[0-9a-f]* \([0-9a-f]*\) \([0-9a-f]*\) .*/\1 \2/p')
    tail -c +$((0x$2 + 1)) "$1" | head -c $((0x$3)) | sha256sum
}
[ "$(code_of "$firmware")" = "$(code_of "$firmware.symbols")" ] || fail "$firmware.symbols is another program"
aarch64-linux-gnu-objdump --disassemble "$firmware.symbols" | awk -f tools/beyond-armv8.0.awk ||
    fail "the board has no such instructions; functions that ask the CPU first are listed in tools/beyond-armv8.0.awk"
ok "nothing beyond ARMv8.0-A"

board() { qemu-aarch64 -cpu cortex-a53 "$firmware" "$@"; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# same NAME ARGUMENTS...: checks that both binaries write the same to standard output.
same() {
    name=$1
    shift
    "$host" "$@" >"$scratch/host" 2>"$scratch/host.err" || { cat "$scratch/host.err" >&2; fail "$host cannot: $*"; }
    board "$@" >"$scratch/board" 2>"$scratch/board.err" || { cat "$scratch/board.err" >&2; fail "in the emulator: $*"; }
    [ -s "$scratch/host" ] || fail "$host $* says nothing, so nothing is compared"
    diff "$scratch/host" "$scratch/board" >&2 || fail "the two binaries differ in: $*"
    ok "$name: the same here and on an emulated Cortex-A53"
}
same "version" --version
same "tokens, int8" ask --model "$model" "Why is the sky blue?"
same "tokens, f32" ask --model "$model" --precision float "Why is the sky blue?"
same "sampled tokens" ask --model "$model" --temperature 1 --seed 7 "Once upon a time"
# These figures contain digests of every logit and every KV byte of the golden sequences, and
# compare every hit with its miss.
grep -q '"kv": *"[0-9a-f]\{32\}"' <<END || fail "verify --json gives no digests"
$("$host" verify --json tests/data/gemma3-tiny)
END
same "logits, KV bytes and hits" verify --json tests/data/gemma3-tiny
if [ -n "$real" ]; then
    same "tokens of ${real##*/}" ask --model "$real" --max-tokens 6 "Water boils at a temperature of"
else
    echo "skipped: tokens of the real model, which is not there: make model"
fi
