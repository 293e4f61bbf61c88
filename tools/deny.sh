#!/usr/bin/env bash
# Checks every dependency's licence and source, and what is banned (deny.toml); and, where their database can be had, whether one has a
# published weakness. cargo-deny is taken from the PATH, else built once from its crate and kept in the user's cache. Ends with 69 where
# it cannot be built.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
home=${XDG_CACHE_HOME:-$HOME/.cache}/potluck/cargo-deny-$version
export PATH="$PATH:$home/bin"

if ! command -v cargo-deny >/dev/null; then
    echo "deny: building cargo-deny $version, once (some minutes)"
    # Without optimisation: it builds in half the time and runs for a second.
    cargo install --quiet --locked --debug --version "$version" --root "$home" cargo-deny || {
        echo "deny: cargo-deny cannot be built here: dependencies were not checked" >&2
        exit 69
    }
fi
cargo deny --all-features check --allow duplicate licenses bans sources
# The database lies in a repository of its own, which not every machine reaches.
if timeout 60 cargo deny --all-features fetch db >/dev/null 2>&1; then
    cargo deny --all-features check --disable-fetch advisories
else
    echo "skipped: advisories: their database cannot be had here"
fi
