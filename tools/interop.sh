#!/usr/bin/env bash
# Tests nemostt with the elements of gst-plugins-rs (transcriberbin, textwrap,
# tttocea608, tttojson, hlssink3), which cargo builds for the tests, and the
# examples in Python that use them. Installs what they need: the headers of Pango
# and Cairo, GStreamer's "bad" and "ugly" plugins, PyGObject, and FFmpeg.
# Safe to run again: installs only what is missing.
set -euo pipefail

usage() {
    cat <<'END'
usage: tools/interop.sh [DIRECTORY]

  DIRECTORY   contains libgstnemostt.so (default: target/plugin)

  NEMOSTT     in the environment: the command (default: target/release/nemostt)
END
}

me=interop
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }

plugin_dir=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../target/plugin}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -f "$plugin_dir/libgstnemostt.so" ] ||
    die "$plugin_dir has no libgstnemostt.so: run 'make build' first"

# ---- System packages ----

# libgstreamer-plugins-bad1.0-dev is not needed: nothing links to it.
packages=(
    gcc libc6-dev pkg-config
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    libpango1.0-dev libcairo2-dev
    gstreamer1.0-tools
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    # For the examples: x264enc, and a server of RTMP.
    gstreamer1.0-plugins-ugly python3-gi gir1.2-gstreamer-1.0 ffmpeg
)

check_without_dpkg() {
    local missing=() module
    for module in gstreamer-1.0 gstreamer-app-1.0 gstreamer-video-1.0 pangocairo cairo-gobject; do
        pkg-config --exists "$module" 2>/dev/null || missing+=("$module.pc")
    done
    [ "${#missing[@]}" -eq 0 ] ||
        die "this is not Debian or Ubuntu; install these manually: ${missing[*]}"
}

if has_apt; then
    install_packages
else
    check_without_dpkg
fi
gst-inspect-1.0 --exists cccombiner ||
    die "GStreamer's plugin closedcaption is missing: it is one of the \"bad\" plugins"

for element in openh264enc voaacenc h264parse mpegtsmux srtsrc rtmp2sink; do
    gst-inspect-1.0 --exists "$element" ||
        die "GStreamer's element $element is missing: it is one of the \"bad\" plugins"
done

# ---- Tests ----

root=$PWD
NEMOSTT=$(realpath -m "${NEMOSTT:-target/release/nemostt}")
[ -x "$NEMOSTT" ] || die "$NEMOSTT is missing: run 'make build' first"
export NEMOSTT
export CARGO_TARGET_DIR=$root/target/interop
export HLS_PLUGIN_PATH=$CARGO_TARGET_DIR/debug
cd tests/interop
# Processes load these as plugins: the command and the examples.
"${CARGO:-cargo}" build --locked --package gst-plugin-hlssink3 --package gst-plugin-closedcaption --package gst-plugin-textwrap
"${CARGO:-cargo}" build --locked --tests
say "testing $plugin_dir in real time, which takes a minute"
# The pipelines are live and mostly wait, so the tests can run in parallel. They
# use only the system's GStreamer plugins, and a separate registry.
G_DEBUG=fatal_warnings \
    GST_PLUGIN_PATH=$plugin_dir \
    GST_PLUGIN_SYSTEM_PATH=$(pkg-config --variable=pluginsdir gstreamer-1.0) \
    GST_REGISTRY=$root/target/interop/gst-registry.bin \
    "${CARGO:-cargo}" test --locked --tests -- --test-threads=8
