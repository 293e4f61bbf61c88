#!/bin/sh
# Fuzzes every target for a while, one after another, and stops at the first that finds a fault.
#
#   tests/fuzz/fuzz.sh SECONDS [TARGET...]
#
# libFuzzer comes from the crate libfuzzer-sys; with the flags below a stable compiler instruments
# coverage. The corpus is kept in target/fuzz/corpus, and faults in target/fuzz/found.
set -eu
[ $# -ge 1 ] || { echo "usage: fuzz.sh SECONDS [TARGET...]" >&2; exit 2; }
seconds=$1
shift
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/fuzz
[ $# -gt 0 ] || set -- fetching serving handshake sealed datagrams terminal settings http gguf tokenizer packed template
features=
for name in "$@"; do
    case $name in settings | http | gguf | tokenizer | packed | template) features="--features files" ;; esac
done

# With --target the flags do not apply to build scripts and procedural macros, which would fail to
# link with them.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=16"
# shellcheck disable=SC2086
"${CARGO:-cargo}" build --locked $features --target "$host" --target-dir "$target" ${JOBS:+--jobs $JOBS}

for name in "$@"; do
    longest=8192
    corpus=$target/corpus/$name
    mkdir -p "$corpus" "$target/found"
    # Seeds: real inputs of the target.
    case $name in
    gguf)
        longest=65536
        cp seeds/gguf/* "$corpus"
        # One file that is not split: see the target.
        { printf '\0'; head -c 65000 "$root/tools/demo-model/model/potluck-demo.gguf"; } >"$corpus/demo"
        ;;
    tokenizer) cp seeds/tokenizer.json "$corpus" ;;
    template) cp seeds/template/* "$corpus" ;;
    settings) cp seeds/potluck.toml "$corpus" ;;
    http) cp seeds/http/* "$corpus" ;;
    esac
    echo "fuzz: $name, $seconds s"
    "$target/$host/debug/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len="$longest" -print_final_stats=1 \
        -artifact_prefix="$target/found/$name-" "$corpus" >"$target/$name.log" 2>&1 || {
        tail -n 40 "$target/$name.log" >&2
        echo "fuzz: $name found a fault: see target/fuzz/found; reproduce with: $target/$host/debug/$name FILE" >&2
        exit 1
    }
    grep -E 'stat::number_of_executed_units|cov: ' "$target/$name.log" | tail -n 2
done
