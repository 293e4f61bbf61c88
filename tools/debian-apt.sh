#!/bin/sh
# Sets up a separate root for apt in DIR, so that packages of another suite or architecture can be
# fetched without privileges and without touching what is installed. Prints the path of its
# configuration, for APT_CONFIG. DIR/reach.conf is the part that says how this machine reaches an
# archive, for other programs that download from it.
#
#   tools/debian-apt.sh DIR ARCHITECTURES LINE...
#       ARCHITECTURES is arm64, or amd64,arm64 with the native one first;
#       each LINE is a line of sources.list, with @ for the archive's address
set -eu
[ $# -ge 3 ] || { echo "usage: debian-apt.sh DIR ARCHITECTURES LINE..." >&2; exit 2; }
mirror=$("$(dirname "$0")/debian-mirror.sh")
mkdir -p "$1/etc/apt.conf.d" "$1/etc/preferences.d" "$1/lists/partial" "$1/cache/archives/partial"
apt=$(cd "$1" && pwd)
archs=$2
shift 2
: >"$apt/status"
# A folder of this machine is trusted as it is; an archive on the network must have Debian's
# signature.
case $mirror in
    file:*) trust=trusted=yes ;;
    *) trust=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ;;
esac
# The sources name the architectures, because some archives list more than they have.
for line in "$@"; do printf '%s\n' "$line" | sed "s#@#[arch=$archs $trust] $mirror#"; done >"$apt/etc/sources.list"
# Proxies, certificates and retries; and this machine's exceptions for a mirror that is not updated
# every day.
apt-config dump Acquire --format '%f "%v";%n' |
    grep -E '^Acquire::(http|https|Retries|Check-Valid-Until|Check-Date)' >"$apt/reach.conf" || true
{
    cat "$apt/reach.conf"
    cat <<CONF
Dir::Etc "$apt/etc"; Dir::Etc::Parts "apt.conf.d"; Dir::Etc::SourceList "sources.list"; Dir::Etc::SourceParts "-";
Dir::State::Lists "$apt/lists"; Dir::State::Status "$apt/status"; Dir::Cache "$apt/cache";
APT::Architecture "${archs%%,*}"; APT::Architectures { $(echo "$archs" | sed 's/[^,]*/"&";/g; s/,/ /g') };
APT::Install-Recommends "false"; Acquire::Languages "none"; APT::Sandbox::User "";
CONF
} >"$apt/apt.conf"
APT_CONFIG=$apt/apt.conf apt-get -qq --error-on=any update >&2
printf '%s\n' "$apt/apt.conf"
