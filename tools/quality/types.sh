#!/bin/sh
# Measures the cost of each file type in potluck's arithmetic and in llama.cpp's: converts one file
# to every type with llama.cpp's quantiser, and compares each with f32 arithmetic on its own
# weights. Types that already have figures in DIR are not measured again.
#
#   tools/quality/types.sh DIR POTLUCK PEER QUALITY MODEL.gguf TEXT [OPTIONS OF quality text]
set -eu
[ $# -ge 6 ] || { echo "usage: types.sh DIR POTLUCK PEER QUALITY MODEL.gguf TEXT [OPTIONS]" >&2; exit 2; }
dir=$1
potluck=$2
peer=$3
quality=$4
model=$5
text=$6
shift 6
mkdir -p "$dir"
# F32 is the smallest type that represents every quantised value exactly.
[ -e "$dir/f32.gguf" ] || "$potluck" convert "$model" "$dir/f32.gguf" --type f32
for kind in f16 bf16 q8_0 q6_k q5_k_m q5_1 q5_0 q4_k_m q4_1 q4_0 iq4_nl iq4_xs q3_k_m q2_k; do
    [ -e "$dir/$kind.json" ] && continue
    "$peer" quantize "$dir/f32.gguf" "$dir/$kind.gguf" --type $kind >/dev/null
    "$quality" text --json --lanes int8,llama.cpp --peer "$peer" --model "$dir/$kind.gguf" "$@" "$text" >"$dir/$kind.part"
    mv "$dir/$kind.part" "$dir/$kind.json"
    rm "$dir/$kind.gguf"
done
for kind in "$dir"/*.json; do cat "$kind"; done
