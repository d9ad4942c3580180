#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs tests where errors of memory and races show that the compiler cannot see: see "usage".
# Needs a nightly Rust, with rust-src and miri; what is missing is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'END'
usage: tools/sanitize.sh [STAGE...]     all of them, if none is named

  miri     the kernels in Rust's interpreter: undefined behavior, races, wrong borrows. It knows no vectors beyond SSE2: code for
           others is covered by the other stages
  loom     the thread team (executor/team.rs) in all orders in which its threads may run
  address  recogniser and arithmetic under AddressSanitizer: what is read or written out of bounds or too late
  thread   the arithmetic under ThreadSanitizer: what two threads read and write without order

ORT_DYLIB_PATH names ONNX Runtime ("make sanitize" sets it). It is not built for sanitizers: of what it does itself, only what
goes wrong in memory that it has from malloc is found.
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
    [ -f "${ORT_DYLIB_PATH:-}" ] || fail "ONNX Runtime is missing: run 'make setup', and this by 'make sanitize'"
}

# Only this target's code is built for a sanitizer, not build scripts and macros, which run in the compiler.
host=$(rustc -vV | sed -n 's/^host: //p')
base=${CARGO_TARGET_DIR:-target}/sanitize

# stage log-name command...: runs the tests and says how many there were.
tests() {
    local stage=$1 log begin=$SECONDS
    shift
    mkdir -p "$base"
    log=$base/$stage.log
    "$@" 2>&1 | tee "$log" || fail "$stage: failed, see $log"
    local passed ignored
    passed=$(awk '/^test result: ok/ { sum += $4 } END { print sum + 0 }' "$log")
    ignored=$(awk '/^test result: ok/ { sum += $8 } END { print sum + 0 }' "$log")
    [ "$passed" -gt 0 ] || fail "$stage: no test was run"
    summary+=("$stage: $passed tests passed, $ignored left out, in $((SECONDS - begin)) s")
}

stage_miri() {
    need_nightly
    need_component miri
    need_component rust-src
    # Failures of property tests are kept in files, for which isolation must be off.
    MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" CARGO_TARGET_DIR=$base \
        tests miri cargo +nightly miri test --locked -p nemostt-kernels --lib
    summary+=("miri: tests that are left out say why (#[cfg_attr(miri, ignore = \"...\")])")
}

stage_loom() {
    RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$base/loom \
        tests loom cargo test --release --locked -p nemostt-kernels --lib executor::team
}

stage_address() {
    need_nightly
    need_runtime
    # ONNX Runtime keeps much until the process ends, and the loader frees it without LeakSanitizer's knowledge: leaks are
    # looked for with valgrind ("make memcheck").
    RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}" ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=$base \
        tests address cargo +nightly test --locked --target "$host" -p nemostt-kernels -p nemostt-compiler -p nemostt \
        --lib --test recognizer
    summary+=("address: not run: allocations (counts calls of the allocator, which is the sanitizer's here) and")
    summary+=("address: whatever needs GStreamer; ONNX Runtime is not instrumented")
}

stage_thread() {
    need_nightly
    need_component rust-src
    # The standard library must be instrumented, too, or its locks and channels are races.
    RUSTFLAGS="-Zsanitizer=thread ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$base \
        tests thread cargo +nightly test -Zbuild-std --locked --target "$host" -p nemostt-kernels --lib
    summary+=("thread: not run: tests with ONNX Runtime: its threads hand over work by means that the sanitizer does not see in")
    summary+=("thread: code that is not instrumented, so all that they do would be a race")
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
