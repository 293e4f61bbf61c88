#!/bin/sh
# Gives apt a root of its own in DIR, so that packages of another suite or architecture can be fetched without touching what is
# installed: no privilege is needed. Prints the path of its configuration, for APT_CONFIG.
#
#   tools/debian-apt.sh DIR ARCHITECTURE LINE...   each line one of sources.list, with @ for the archive's address
set -eu
[ $# -ge 3 ] || { echo "usage: debian-apt.sh DIR ARCHITECTURE LINE..." >&2; exit 2; }
mirror=$("$(dirname "$0")/debian-mirror.sh")
mkdir -p "$1/etc/apt.conf.d" "$1/etc/preferences.d" "$1/lists/partial" "$1/cache/archives/partial"
apt=$(cd "$1" && pwd)
arch=$2
shift 2
: >"$apt/status"
for line in "$@"; do
    printf '%s\n' "$line" | sed "s#@#[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror#"
done >"$apt/etc/sources.list"
{
    apt-config dump Acquire --format '%f "%v";%n' | grep -E '^Acquire::(http|https|Retries)' || true
    cat <<CONF
Dir::Etc "$apt/etc"; Dir::Etc::Parts "apt.conf.d"; Dir::Etc::SourceList "sources.list"; Dir::Etc::SourceParts "-";
Dir::State::Lists "$apt/lists"; Dir::State::Status "$apt/status"; Dir::Cache "$apt/cache";
APT::Architecture "$arch"; APT::Architectures { "$arch"; }; APT::Install-Recommends "false"; Acquire::Languages "none";
APT::Sandbox::User "";
CONF
} >"$apt/apt.conf"
APT_CONFIG=$apt/apt.conf apt-get -qq update >&2
printf '%s\n' "$apt/apt.conf"
