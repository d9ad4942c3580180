#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Draws the pictures of the README into docs/images: a video frame with captions, a terminal session, and the page with live
# captions. The first two come from the real programs, with the built-in model and assets/demo.wav; "make screenshots" builds
# them first. The page shows made-up text, which that model does not know.
#
#   NEMOSTT          the command [default: target/release/nemostt]
#   GST_PLUGIN_PATH  the directory of the plugin [default: target/plugin]
set -euo pipefail

# shellcheck disable=SC2034 # read by packages.sh
me=screenshots
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$PWD/target/plugin}
export NEMOSTT=${NEMOSTT:-$PWD/target/release/nemostt}
unset NEMOSTT_MODEL
[ -x "$NEMOSTT" ] || die "$NEMOSTT is missing: run 'make build' first"
gst-inspect-1.0 nemostt >/dev/null || die "the plugin is not in $GST_PLUGIN_PATH: run 'make build' first"

images=docs/images
mkdir -p "$images"
frames=$(mktemp -d)
trap 'rm -rf "$frames"' EXIT

# One frame per second. The third utterance lasts from 5.6 to 7.4 s.
second=6
gst-launch-1.0 -q videotestsrc pattern=smpte75 num-buffers=10 ! video/x-raw,width=640,height=360,framerate=1/1 \
    ! textoverlay name=captions font-desc="Sans, 22" shaded-background=true ! videoconvert \
    ! pngenc compression-level=9 ! multifilesink location="$frames/%d.png" \
    filesrc location=assets/demo.wav ! wavparse ! audioconvert ! audioresample \
    ! nemostt output=utterances ! queue max-size-time=0 ! captions.text_sink >"$frames/log" ||
    { cat "$frames/log" >&2; die "gst-launch-1.0 failed"; }
cp "$frames/$second.png" "$images/captions.png"

python3 tools/terminal_svg.py "$images/terminal.svg"
tools/page_test.sh --screenshot "$images/live-page.png"
say "$(du -bc "$images/captions.png" "$images/terminal.svg" "$images/live-page.png" | tail -1 | cut -f 1) bytes in $images"
