#!/bin/sh
# Chooses the Debian suite for a cross toolchain: the first in which rustc and the standard
# libraries for amd64 and arm64 have the same version, and a new enough one. When one architecture's
# build is late, the versions in a suite differ for days and cannot be installed together. The
# choice is made from the archive's indices: apt resolves the whole installation, with all
# dependencies, in a separate root, and fetches only the indices (some 20 s per suite).
#
#   tools/debian-rust.sh DIR PACKAGE...
#       PACKAGEs must be installable together with rustc and both libraries
#
# Prints "SUITE VERSION" and leaves that suite's apt root in DIR (tools/debian-apt.sh). If no suite
# works, exits with 69 and says why for each. Environment: DEBIAN_SUITES, the suites to try;
# DEBIAN_MIRROR.
set -eu
cd "$(dirname "$0")"
[ $# -ge 1 ] || { echo "usage: debian-rust.sh DIR PACKAGE..." >&2; exit 2; }
dir=$1
shift
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ../Cargo.toml)
# Trixie's own Rust is too old for potluck. Of the others, the oldest suite comes first: it changes
# least.
suites=${DEBIAN_SUITES:-trixie-backports forky sid}

say() { echo "debian-rust: $*" >&2; }
# Use the suite's apt root, not the machine's.
of_suite() { APT_CONFIG=$dir/apt.conf "$@"; }
# candidate PACKAGE: the version that would be installed; nothing if there is none.
candidate() { of_suite apt-cache policy "$1" | sed -n 's/^ *Candidate: *\([0-9].*\)$/\1/p'; }

# fits SUITE PACKAGE...: whether SUITE works; if not, $why says why.
fits() {
    suite=$1
    shift
    set -- rustc cargo libstd-rust-dev libstd-rust-dev:arm64 "$@"
    rm -rf "$dir"
    case $suite in *-backports) base=${suite%-backports} ;; *) base= ;; esac
    # Backports need their base suite.
    ./debian-apt.sh "$dir" amd64,arm64 ${base:+"deb @ $base main"} "deb @ $suite main" >/dev/null ||
        { why="its indices cannot be fetched"; return 1; }
    echo "APT::Default-Release \"$suite\";" >>"$dir/apt.conf"
    version=$(candidate rustc)
    amd64=$(candidate libstd-rust-dev)
    arm64=$(candidate libstd-rust-dev:arm64)
    if [ -z "$version" ] || [ "$version" != "$amd64" ] || [ "$version" != "$arm64" ]; then
        why="rustc is ${version:-missing}, its libraries ${amd64:-missing} for amd64 and ${arm64:-missing} for arm64"
        return 1
    fi
    version=${version%%[-+~]*}
    printf '%s\n' "$needed" "$version" | sort -CV || { why="rustc is $version, and potluck needs $needed"; return 1; }
    said=$(of_suite apt-get -s -y -q install "$@" 2>&1) || {
        why=$(printf '%s\n' "$said" | grep -E -m 1 '^ .* : |^E: ' || echo "apt-get fails: $said")
        return 1
    }
}

for suite in $suites; do
    if fits "$suite" "$@"; then
        say "$suite has rustc $version and its libraries for both architectures"
        echo "$suite $version"
        exit
    fi
    say "$suite does not serve: $why"
done
say "no suite of the archive has a compiler and both libraries that fit together: try again in a day or two, or name other" \
    "suites in DEBIAN_SUITES"
exit 69
