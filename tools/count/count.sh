#!/bin/sh
# Counts the instructions that the board's binary executes for a token: in a prompt of 64, and for a
# step of decode after 64; and the bytes that such a step reads from memory. It runs in qemu's
# emulator of a Cortex-A53 with the plugins beside this file; loading is what remains when two runs
# are subtracted. The figures are the same from run to run, however busy the machine is. Needs gcc
# and qemu-user, both Debian's.
#
#   tools/count/count.sh OUT.json COMMAND MODEL.gguf...
#
# COMMAND is an aarch64 program with its arguments that takes the options of `potluck bench`; give
# it with its symbols, and the functions that take most are listed as well.
set -eu
[ $# -ge 3 ] || { echo "usage: count.sh OUT.json COMMAND MODEL.gguf..." >&2; exit 2; }
out=$1
command=$2
shift 2

fail() { echo "count: $*" >&2; exit 1; }
for need in gcc:gcc qemu-aarch64:qemu-user; do
    command -v "${need%%:*}" >/dev/null || fail "no ${need%%:*}: apt-get install ${need##*:}"
done
[ -e "${command%% *}" ] || fail "no ${command%% *}: make firmware"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The interface's number: QEMU refuses a plugin that it thinks too new or too old.
major=$(qemu-aarch64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
for plugin in count memory; do
    gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden \
        -DPLUGIN_API=$((major >= 9 ? 2 : 1)) -o "$scratch/$plugin.so" "${0%/*}/$plugin.c"
done

# run PLUGIN NAME MODEL PREFILL STEPS: what the plugin counts, into NAME.
run() {
    # shellcheck disable=SC2086
    qemu-aarch64 -cpu cortex-a53 -plugin "$scratch/$1.so,out=$scratch/$2" $command --model "$3" \
        --runs 1 --no-warm-up --prefill "$4" --depth 64 --steps "$5" >"$scratch/said" ||
        fail "the emulator does not take the plugin, or $command fails"
}

# difference LESS MORE TOKENS: "TOTAL" and the functions that differ most, in instructions a token.
difference() {
    awk -v tokens="$3" '
        FNR == NR { less[$2] += $1; next }
        { more[$2] += $1 }
        END {
            for (name in more) { each = (more[name] - less[name]) / tokens; total += each; printf "%.0f %s\n", each, name }
            printf "%.0f TOTAL\n", total
        }' "$scratch/$1" "$scratch/$2" | sort -rn >"$scratch/sorted"
    # Names as the linker knows them, without their hash.
    head -n 7 "$scratch/sorted" | c++filt 2>/dev/null | sed 's/::h[0-9a-f]\{16\}$//' >&2
    sed -n 's/ TOTAL$//p' "$scratch/sorted"
}

rows=
for model in "$@"; do
    name=${model##*/}
    # Whatever is made once for a model is made here.
    run count none "$model" 0 0
    # Nothing, a prompt, and a shorter and a longer answer after it. (Before the steps lie 64
    # tokens, prefilled and not counted.)
    run count none "$model" 0 0
    run count prompt "$model" 64 0
    run count short "$model" 0 2
    run count long "$model" 0 10
    echo "$name, prefill of 64, instructions a token:" >&2
    prefill=$(difference none prompt 64)
    echo "$name, decode after 64, instructions a token:" >&2
    decode=$(difference short long 8)
    run memory short "$model" 0 2
    run memory long "$model" 0 10
    read=$((($(cat "$scratch/long") - $(cat "$scratch/short")) / 8))
    rows="$rows${rows:+, }{\"model\": \"$name\", \"prefill_64\": $prefill, \"decode_at_64\": $decode, \"decode_reads_bytes\": $read}"
done
echo "[$rows]" >"$out"
cat "$out"
