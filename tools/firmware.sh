#!/bin/sh
# Builds the board's binary: one statically linked aarch64 `potluck` in target/firmware, with its
# checksum, a record of how it was built, and a copy that still has symbols. Flags fix the compiler
# and the paths that it sees, so the same commit built the same way with the same compiler gives the
# same bytes, wherever the clone is.
#
#   tools/firmware.sh toolchain [WAY]
#       only sets up the compiler; exits with 69 if none is available, which is not the fault of a
#       change of potluck
#   tools/firmware.sh build [WAY]
#       builds target/firmware/potluck
#   tools/firmware.sh test [WAY [CARGO'S ARGUMENTS]]
#       runs the tests, compiled for the board, in an emulator of its processor
#
# Unless WAY is given, it is the first that works on this machine:
#   published  cross in its published image, if Docker, a container registry and rustup's servers
#              answer
#   local      cross in an image made here from Debian packages (tools/cross-image.sh), if there are
#              Docker and mmdebstrap
#   plain      otherwise, cargo with Debian's cross compiler (unpacked by tools/debian-toolchain.sh
#              if necessary)
# Environment: CARGO_TARGET_DIR as for cargo, JOBS (compilers at once), CARGO.
set -eu
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
cross_version=0.2.5
published_image=ghcr.io/cross-rs/$target:$cross_version
local_image=potluck-cross

cargo=${CARGO:-cargo}
root=$(pwd)
target_dir=${CARGO_TARGET_DIR:-target}
case $target_dir in /*) ;; *) target_dir=$root/$target_dir ;; esac
tools=$target_dir/tools
out=$target_dir/firmware
cargo_home=${CARGO_HOME:-$HOME/.cargo}

say() { echo "firmware: $*" >&2; }
fail() { say "$*"; exit 1; }
# The exit code if no toolchain is available, distinct from every failure of a build.
none() { say "$*"; exit 69; }
case $root$target_dir$cargo_home in *' '*) fail "a path with a space cannot be passed through RUSTFLAGS; move the clone" ;; esac

docker_answers() { command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; }
registry_answers() {
    docker image inspect "$published_image" >/dev/null 2>&1 ||
        timeout 30 docker manifest inspect "$published_image" >/dev/null 2>&1
}
target_std_is_there() { [ -d "$(rustc --print target-libdir --target $target)" ]; }
installed() { target_std_is_there && command -v aarch64-linux-gnu-gcc >/dev/null; }
rustup_answers() { command -v rustup >/dev/null && { target_std_is_there || timeout 300 rustup target add $target; }; }

choose() {
    if ! docker_answers; then
        way=plain why="no Docker engine answers"
    elif registry_answers && rustup_answers; then
        way=published why="a container registry and rustup answer"
    elif command -v mmdebstrap >/dev/null || [ -n "$(docker image ls -q $local_image)" ]; then
        way=local why="Docker answers, but no container registry or no rustup server"
    else
        way=plain why="Docker answers, but no container registry or no rustup server, and there is no mmdebstrap"
    fi
}

goal=${1:-}
case $goal in toolchain | build | test) shift ;; *) fail "say toolchain, build or test, and a way if it matters which" ;; esac
case ${1:-} in
    '') choose ;;
    published | local | plain) way=$1 why="as asked"; shift ;;
    *) fail "there is no way called $1; give published, local, plain or nothing" ;;
esac

# The compiler writes paths into panic messages and hashes; these paths differ between clones. Under
# cross, the last two are the container's names of the registry and the target folder.
remap=
for pair in "$cargo_home=cargo" "$target_dir=target" "$root=potluck" /cargo=cargo /target=target; do
    remap="$remap --remap-path-prefix=$pair"
done
# Only these flags and those of .cargo/config.toml: the caller's would change the bytes.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTC_WRAPPER CARGO_BUILD_TARGET
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="${remap# }"
# Not stripped by cargo, but below: the check needs the functions' names, and so does anybody who
# reads a crash's addresses.
export CARGO_PROFILE_RELEASE_STRIP=debuginfo CARGO_INCREMENTAL=0
# A separate folder: what the container's compiler builds for the host may not run here.
export CARGO_TARGET_DIR="$target_dir/$way"
mkdir -p "$CARGO_TARGET_DIR" "$tools" "$out"

# Installs $tools/bin/cross, and a substitute for rustup. cross 0.2.5 cannot parse how current
# rustup marks the active toolchain in its list, and would install it again: the substitute names
# the one in use, and installs nothing.
prepare_cross() {
    image=$1
    if [ ! -x "$tools/bin/cross" ]; then
        say "installing cross $cross_version into ${tools#"$root"/}"
        (unset CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS CARGO_PROFILE_RELEASE_STRIP
         CARGO_TARGET_DIR="$tools/build" "$cargo" install cross --version $cross_version --locked --root "$tools" \
            ${JOBS:+--jobs "$JOBS"})
        rm -rf "$tools/build"
    fi
    sysroot=$(rustc --print sysroot)
    mkdir -p "$tools/stand-in"
    cat >"$tools/stand-in/rustup" <<STAND_IN
#!/bin/sh
[ "\$*" = "toolchain list" ] && echo "${sysroot##*/}" && exit
echo "firmware: cross asks rustup for: \$*" >&2
exit 1
STAND_IN
    chmod +x "$tools/stand-in/rustup"
    # cargo COMMAND ARGUMENTS... for the target, in the container.
    compile() {
        command=$1
        shift
        PATH="$tools/stand-in:$PATH" CROSS_CUSTOM_TOOLCHAIN=1 CROSS_TARGET_AARCH64_UNKNOWN_LINUX_GNU_IMAGE="$image" \
            "$tools/bin/cross" "$command" --frozen --target $target ${JOBS:+--jobs "$JOBS"} "$@"
    }
    # Runs a shell COMMAND in the output folder, with the compiler's tools in the PATH.
    with_tools() {
        docker run --rm --network none --user "$(id -u):$(id -g)" -v "$sysroot:/rust:ro" -v "$out:/firmware" "$image" \
            sh -c "PATH=\$PATH:/rust/bin; cd /firmware && $1"
    }
}

# The same two commands with Debian's tools: those that are installed here, or else the unpacked
# ones.
prepare_plain() {
    bin=
    if ! installed; then
        bin=$tools/debian/bin
        export RUSTC="$bin/rustc" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$bin/aarch64-linux-gnu-gcc"
    fi
    compile() {
        command=$1
        shift
        "$cargo" "$command" --frozen --target $target ${JOBS:+--jobs "$JOBS"} "$@"
    }
    with_tools() { (PATH="${bin:+$bin:}$PATH"; cd "$out" && sh -c "$1"); }
}

build() {
    began=$(date +%s)
    compile build --release --bin potluck
    cp "$CARGO_TARGET_DIR/$target/release/potluck" "$out/potluck.symbols"
    with_tools 'aarch64-linux-gnu-strip --strip-all -o potluck potluck.symbols'
    {
        echo "commit $(git describe --always --dirty --abbrev=40 2>/dev/null || echo unknown)"
        echo "way $way"
        with_tools 'rustc --version; aarch64-linux-gnu-gcc --version | head -n 1'
    } >"$out/potluck.built-with"
    (cd "$out" && sha256sum potluck >potluck.sha256)
    say "${out#"$root"/}/potluck: $(wc -c <"$out/potluck") bytes in $(($(date +%s) - began)) s," \
        "sha256 $(cut -d' ' -f1 "$out/potluck.sha256")"
}

# Runs the tests that each argument selects, in an emulator of the board's processor. The published
# image has its own runner.
run_tests() {
    [ "$way" = published ] || export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu cortex-a53"
    [ "$way" != plain ] || command -v qemu-aarch64 >/dev/null || fail "no emulator to run the tests in: apt-get install qemu-user"
    for what in "$@"; do
        say "tests: $what"
        # shellcheck disable=SC2086
        compile test $what
    done
}

say "way '$way', for $why"
case $way in
    published) rustup_answers || none "rustup cannot fetch the standard library of $target"; image=$published_image ;;
    local) image=$(tools/cross-image.sh $local_image) || exit ;;
    plain) installed || [ -e "$tools/debian/bin/rustc" ] || tools/debian-toolchain.sh "$tools/debian" || exit ;;
esac
[ "$goal" != toolchain ] || exit 0
case $way in plain) prepare_plain ;; *) prepare_cross "$image" ;; esac
# Fetch everything here: the build itself needs no network.
"$cargo" fetch --locked
case $goal in
    build) build ;;
    test)
        [ $# = 0 ] || { run_tests "$*"; exit; }
        # The pure core's tests first: they compile in a minute. Tests that start other processes
        # need a kernel that runs aarch64.
        run_tests '--lib --no-default-features' '--lib --test potluck -- --skip processes::'
        ;;
esac
