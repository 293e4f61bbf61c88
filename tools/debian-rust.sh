#!/bin/sh
# Chooses the suite of Debian that a cross toolchain comes from: the first whose rustc and whose standard libraries for amd64
# and arm64 are of one version, and new enough. A suite holds different ones for days when an architecture's build comes later,
# and those cannot be installed together. It is decided from the archive's indices: apt works out the whole installation in a
# root of its own, with everything that comes along, and nothing is fetched but the indices (some 20 s for each suite).
#
#   tools/debian-rust.sh DIR PACKAGE...   PACKAGEs are what must be installable beside rustc and both libraries
#
# Prints "SUITE VERSION" and leaves that suite's apt root in DIR (tools/debian-apt.sh). Ends with 69 where no suite serves, and
# says of each why. Environment: DEBIAN_SUITES, the suites to try; DEBIAN_MIRROR.
set -eu
cd "$(dirname "$0")"
[ $# -ge 1 ] || { echo "usage: debian-rust.sh DIR PACKAGE..." >&2; exit 2; }
dir=$1
shift
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ../Cargo.toml)
# Trixie's own Rust is older than what potluck needs. Of the others the oldest suite first: it changes least.
suites=${DEBIAN_SUITES:-trixie-backports forky sid}

say() { echo "debian-rust: $*" >&2; }
# The suite's apt, and not the machine's.
of_suite() { APT_CONFIG=$dir/apt.conf "$@"; }
# candidate PACKAGE: the version that would be installed; nothing where there is none.
candidate() { of_suite apt-cache policy "$1" | sed -n 's/^ *Candidate: *\([0-9].*\)$/\1/p'; }

# fits SUITE PACKAGE...: whether SUITE serves; where not, $why says what is wrong.
fits() {
    suite=$1
    shift
    set -- rustc cargo libstd-rust-dev libstd-rust-dev:arm64 "$@"
    rm -rf "$dir"
    case $suite in *-backports) base=${suite%-backports} ;; *) base= ;; esac
    # Backports stand on their suite.
    ./debian-apt.sh "$dir" amd64,arm64 ${base:+"deb @ $base main"} "deb @ $suite main" >/dev/null ||
        { why="its indices cannot be had"; return 1; }
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
