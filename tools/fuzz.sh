#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the fuzz targets of fuzz/ one after the other with AddressSanitizer, each starting from its corpus in the
# repository. Results go to target/fuzz. Needs nightly Rust, cargo-fuzz, GStreamer and ONNX Runtime; installs nothing.
set -euo pipefail

me=fuzz
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=target/fuzz
seconds=60
minimize=no
# --minimise adds at most this much to the corpus of a target in the repository.
max_added_kb=192
targets=()

usage() {
    cat <<END
usage: tools/fuzz.sh [--seconds N] [--minimise] [TARGET ...]

  --seconds N   run each target for N seconds (default: $seconds)
  --minimise    add inputs that reach new code to fuzz/corpus, up to $max_added_kb kB per target
  TARGET        targets to run (default: all): $(known)
END
}

say() { echo "$me: $*"; }
die() { echo "$me: $*" >&2; exit 1; }
known() { awk '/^\[\[bin\]\]/ { getline; gsub(/"/, "", $3); printf "%s ", $3 }' fuzz/Cargo.toml; }

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --seconds) seconds=${2:?}; shift ;;
        --minimise) minimize=yes ;;
        -*) usage >&2; exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
[ "${#targets[@]}" -gt 0 ] || read -ra targets <<<"$(known)"

command -v rustup >/dev/null || die "rustup is missing: see https://rustup.rs"
rustup run nightly cargo --version >/dev/null 2>&1 ||
    die "nightly Rust is missing: rustup toolchain install nightly --profile minimal"
rustup run nightly cargo fuzz --version >/dev/null 2>&1 || die "cargo-fuzz is missing: cargo install cargo-fuzz --locked"
version=$(awk '$1 == "version" { print $2 }' tools/onnxruntime.lock)
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/target/onnxruntime/libonnxruntime.so.$version}
[ -f "$ORT_DYLIB_PATH" ] || die "$ORT_DYLIB_PATH is missing: run 'make setup' first"
# Deeper stack traces of allocations would take half of the time.
export ASAN_OPTIONS=malloc_context_size=8${ASAN_OPTIONS:+:$ASAN_OPTIONS}
# Every execution of some targets writes small files.
[ ! -w /dev/shm ] || export TMPDIR=${TMPDIR:-/dev/shm}

fuzz() { rustup run nightly cargo fuzz "$1" --target-dir "$work" "${@:2}"; }

# Larger than any seed.
max_length() {
    case $1 in
        onnx_graph | plan_against_export | cache_entry) echo 262144 ;;
        *) echo 16384 ;;
    esac
}

# Adds inputs that reach new code to the corpus in the repository, the smallest files first.
minimize() {
    local target=$1 corpus=fuzz/corpus/$1 minimal=$work/minimal/$1 file
    rm -rf "$minimal"
    mkdir -p "$minimal"
    mkdir -p "$corpus"
    find "$corpus" -type f -exec cp {} "$minimal/" ';'
    fuzz run "$target" "$minimal" "$work/corpus/$target" -- "${@:2}" -merge=1 >>"$work/$target.log" 2>&1 ||
        die "the corpus of $target cannot be minimized: see $work/$target.log"
    local size added=0
    while read -r size file; do
        [ ! -e "$corpus/$file" ] || continue
        added=$((added + size))
        [ "$added" -le $((max_added_kb * 1024)) ] || break
        cp "$minimal/$file" "$corpus/"
    done < <(find "$minimal" -type f -printf '%s %f\n' | sort -n)
    say "$target: $(find "$corpus" -type f | wc -l) files, $(du -sbc "$corpus"/* | tail -1 | cut -f1) bytes in $corpus"
}

failed=()
for target in "${targets[@]}"; do
    [[ " $(known) " == *" $target "* ]] || die "no such target: $target; there are: $(known)"
    mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
    options=(-max_len="$(max_length "$target")" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024)
    # These run models and pipelines and consume every byte: longer inputs are slower, but not better.
    case $target in
        audio_cuts | element_events) options=(-max_len=1024 -len_control=0 -timeout=60 -rss_limit_mb=6144 -detect_leaks=0) ;;
    esac
    [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
    # ONNX Runtime does not free its global state.
    [ "$target" != plan_against_export ] || options+=(-detect_leaks=0)
    fuzz build "$target"
    log=$work/$target.log
    # libFuzzer writes to the first directory.
    corpora=("$work/corpus/$target")
    [ ! -d "fuzz/corpus/$target" ] || corpora+=("fuzz/corpus/$target")
    if ! fuzz run "$target" "${corpora[@]}" -- "${options[@]}" \
        -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$work/artifacts/$target/" >"$log" 2>&1; then
        failed+=("$target")
        grep -E '^(==|SUMMARY|thread|Test unit)|panicked|Base64' "$log" | head -20 >&2 || true
    fi
    executions=$(awk '/stat::number_of_executed_units/ { print $2 }' "$log" | tail -1)
    coverage=$(grep -oE ' cov: [0-9]+' "$log" | tail -1 || true)
    say "$target: ${executions:-no} executions,${coverage:- no coverage}; $log"
    [ "$minimize" = no ] || minimize "$target" "${options[@]}"
done
[ "${#failed[@]}" -eq 0 ] || die "failed: ${failed[*]}; the inputs are in $work/artifacts"
