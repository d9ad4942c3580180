#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs tests under tools that detect memory errors and data races: see "usage".
# Needs nightly Rust with rust-src and miri.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'END'
usage: tools/sanitize.sh [STAGE...]     (default: all stages)

  miri     the kernels in Rust's interpreter: undefined behavior, data races, invalid borrows. Miri supports no vectors
           beyond SSE2; the other stages cover code for wider ones
  loom     the thread team (executor/team.rs) and the batching of streams (lane.rs) with all interleavings of their threads
  address  recognizer, compiler and kernels under AddressSanitizer: out-of-bounds accesses and use after free
  thread   the kernels under ThreadSanitizer: data races

ORT_DYLIB_PATH names ONNX Runtime ("make sanitize" sets it). It is not instrumented: of its own errors only those in
memory from malloc are found.
END
}

fail() {
    echo "sanitize: $*" >&2
    exit 1
}

need_nightly() {
    cargo +nightly --version >/dev/null 2>&1 || fail "nightly Rust is missing: rustup toolchain install nightly"
}

need_component() {
    cargo +nightly --version >/dev/null 2>&1 && rustup +nightly component list --installed 2>/dev/null | grep "^$1" >/dev/null ||
        fail "$1 is missing: rustup toolchain install nightly --component $1"
}

need_runtime() {
    [ -f "${ORT_DYLIB_PATH:-}" ] || fail "ONNX Runtime is missing: run 'make setup', then 'make sanitize'"
}

# With an explicit target, build scripts and procedural macros, which run in the compiler, are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
base=${CARGO_TARGET_DIR:-target}/sanitize

# stage command...: runs the tests of a stage and counts them.
tests() {
    local stage=$1 log begin=$SECONDS
    shift
    mkdir -p "$base"
    log=$base/$stage.log
    "$@" 2>&1 | tee "$log" || fail "$stage: failed, see $log"
    local passed ignored
    passed=$(awk '/^test result: ok/ { sum += $4 } END { print sum + 0 }' "$log")
    ignored=$(awk '/^test result: ok/ { sum += $8 } END { print sum + 0 }' "$log")
    [ "$passed" -gt 0 ] || fail "$stage: no tests ran"
    summary+=("$stage: $passed tests passed, $ignored ignored, in $((SECONDS - begin)) s")
}

stage_miri() {
    need_nightly
    need_component miri
    need_component rust-src
    # Property tests save failures to files, which Miri's isolation would prevent.
    MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" CARGO_TARGET_DIR=$base \
        tests miri cargo +nightly miri test --locked -p nemostt-kernels --lib
    summary+=("miri: ignored tests state the reason (#[cfg_attr(miri, ignore = \"...\")])")
}

stage_loom() {
    RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$base/loom \
        tests loom cargo test --release --locked -p nemostt-kernels --lib executor::team
    RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$base/loom \
        tests loom cargo test --release --locked -p nemostt --no-default-features --lib lane::
}

stage_address() {
    need_nightly
    need_runtime
    # ONNX Runtime keeps memory until the process exits, and LeakSanitizer does not see the dynamic loader free it.
    # Leaks are checked with valgrind instead ("make memcheck").
    RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}" ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=$base \
        tests address cargo +nightly test --locked --target "$host" -p nemostt-kernels -p nemostt-compiler -p nemostt \
        --lib --test recognizer -- --skip corrupted::memory
    summary+=("address: not run: allocations (needs its own allocator) and everything that needs GStreamer")
    summary+=("address: not run: tests that limit the address space, of which the sanitizer itself takes terabytes")
    summary+=("address: ONNX Runtime is not instrumented")
}

stage_thread() {
    need_nightly
    need_component rust-src
    # The standard library must be instrumented, too; otherwise its locks and channels look like races.
    RUSTFLAGS="-Zsanitizer=thread ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$base \
        tests thread cargo +nightly test -Zbuild-std --locked --target "$host" -p nemostt-kernels --lib
    summary+=("thread: not run: tests with ONNX Runtime, which is not instrumented: the sanitizer cannot see how its")
    summary+=("thread: threads synchronize and would report races everywhere")
}

stages=("$@")
[ $# -gt 0 ] || stages=(miri loom address thread)
for stage in "${stages[@]}"; do
    case $stage in
        miri | loom | address | thread) ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

summary=()
for stage in "${stages[@]}"; do
    "stage_$stage"
done
printf 'sanitize: %s\n' "${summary[@]}"
