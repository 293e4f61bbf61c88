#!/usr/bin/env bash
# Checks every dependency's licence and source, and the bans (deny.toml); and the advisories, if
# their database is available. Takes cargo-deny from the PATH, or builds it once from its crate and
# keeps it in the user's cache. Exits with 69 if it cannot be built.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
home=${XDG_CACHE_HOME:-$HOME/.cache}/potluck/cargo-deny-$version
export PATH="$PATH:$home/bin"

if ! command -v cargo-deny >/dev/null; then
    echo "deny: building cargo-deny $version, once (some minutes)"
    # Without optimisation it builds in half the time, and it runs for only a second.
    cargo install --quiet --locked --debug --version "$version" --root "$home" cargo-deny || {
        echo "deny: cargo-deny cannot be built here: dependencies were not checked" >&2
        exit 69
    }
fi
cargo deny --all-features check --allow duplicate licenses bans sources
# The database is a separate repository, which not every machine can reach.
if timeout 60 cargo deny --all-features fetch db >/dev/null 2>&1; then
    cargo deny --all-features check --disable-fetch advisories
else
    echo "skipped: advisories: their database is not available here"
fi
