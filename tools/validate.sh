#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs gst-validate's scenarios on a pipeline with nemostt and on the same pipeline without it, and fails on every issue
# that occurs only with nemostt. Uses the system's gst-validate-1.0. Debian does not package it: there, the one in
# GStreamer's Windows wheels runs under Wine, with nemostt built for Windows (tools/validate_wine.sh).
set -euo pipefail
# shellcheck disable=SC2034 # for packages.sh
me=validate
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scenarios=(
    seek_forward seek_backward simple_seeks seek_with_stop scrub_forward_seeking
    fast_forward reverse_playback
    pause_resume play_5s change_state_intensive
)
work=$PWD/target/validate
mkdir -p "$work/logs"

if command -v gst-validate-1.0 >/dev/null; then
    [ -f target/plugin/libgstnemostt.so ] || die "run 'make build' first"
    export GST_PLUGIN_PATH=$PWD/target/plugin GST_REGISTRY=$work/registry.bin
    gst_validate() { timeout 300 gst-validate-1.0 "$@"; }
    clip=$work/speech.raw
else
    # shellcheck source=tools/validate_wine.sh
    . tools/validate_wine.sh
    clip=Z:$work/speech.raw
fi
export GST_VALIDATE_REPORTING_DETAILS=all

# Raw audio, because wavparse does not support reverse playback and sends EOS events that gst-validate itself reports.
python3 - tests/data/wav/u5_eight_sentences.wav "$work/speech.raw" <<'END'
import sys, wave
with wave.open(sys.argv[1]) as clip, open(sys.argv[2], "wb") as raw:
    raw.write(clip.readframes(clip.getnframes()))
END

# Runs scenario $1 with the element $3 in the pipeline, or without one; the output goes to the log $2.
run() {
    # shellcheck disable=SC2086 # $3 is an element with its properties
    gst_validate --set-scenario "$1" filesrc location="$clip" \
        ! rawaudioparse pcm-format=s16le sample-rate=16000 num-channels=1 \
        ! audioconvert ! audioresample ${3:+! $3} ! fakesink sync=true \
        </dev/null 2>&1 | tr '\r' '\n' >"$work/logs/$2"
}

# The kinds of issues in log $1, including one for a run that did not finish.
issues() {
    sed -nE 's/^ *(issue|warning|critical) : /\1: /p' "$work/logs/$1" | sort -u
    grep -q 'Issues found: ' "$work/logs/$1" || echo "critical: gst-validate did not finish"
}

# The kinds of issues of scenario $1 that occur only with element $2 in the pipeline.
new_issues() {
    local with=$1.${2%% *}.log without=$1.without.log other
    run "$1" "$without" "" &
    other=$!
    run "$1" "$with" "$2" || true
    wait "$other" || true
    grep -q '^Executing ' "$work/logs/$without" || die "scenario $1 did not run: see $work/logs/$without"
    comm -13 <(issues "$without") <(issues "$with")
}

# First check that a failing element is detected at all.
[ -n "$(new_issues play_5s 'identity error-after=2')" ] ||
    die "a failing element was not detected: see $work/logs"
say "a failing element is detected"

failed=no
for scenario in "${scenarios[@]}"; do
    new=$(new_issues "$scenario" nemostt)
    if [ -z "$new" ]; then
        say "$scenario: no new issues ($(issues "$scenario.nemostt.log" | wc -l) kinds of issues with and without)"
    else
        say "$scenario: only with nemostt:"
        printf '%s\n' "$new"
        failed=yes
    fi
done
[ "$failed" = no ] || die "nemostt causes issues: see $work/logs"
