#!/usr/bin/env bash
# Transcribes assets/demo.wav with the plugin in target/plugin and prints its
# words. The gst-launch-1.0 line is printed first, ready to be copied.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf 'demo: %s\n' "$1" >&2
    exit 1
}

command -v gst-launch-1.0 >/dev/null ||
    die "gst-launch-1.0 is not installed: run 'make setup'"
[ -f assets/demo.wav ] || die "assets/demo.wav is missing"

# Without -q: that would also silence the messages that -m prints.
launch=(
    gst-launch-1.0 -m filesrc location=assets/demo.wav
    ! wavparse ! audioconvert ! audioresample ! nemostt ! fakesink
)

printf 'Run this from %s:\n\n' "$PWD"
printf '  GST_PLUGIN_PATH=target/plugin %s\n\n' "${launch[*]}"

# Reads what "gst-launch-1.0 -m" prints. Each word is one line such as
#   Got message #37 from element "nemostt0" (element): nemostt,
#   text=(string)"don\'t", start-time=(guint64)1360000000, ..., is-final=(boolean)true;
# with the fields in any order. GStreamer writes bytes beyond ASCII as \303\251.
# shellcheck disable=SC2016 # awk, not shell
show_words='
# The plain text of a field value: quotes and backslashes taken off.
function plain(s,    out, c) {
    if (s !~ /^"/) return s
    s = substr(s, 2, length(s) - 2)
    out = ""
    while (s != "") {
        c = substr(s, 1, 1)
        if (c == "\\") {
            if (s ~ /^\\[0-3][0-7][0-7]/) {
                out = out sprintf("%c", substr(s, 2, 1) * 64 + substr(s, 3, 1) * 8 + substr(s, 4, 1))
                s = substr(s, 5)
                continue
            }
            s = substr(s, 2)
            c = substr(s, 1, 1)
        }
        out = out c
        s = substr(s, 2)
    }
    return out
}

# Where the value at the start of s ends: at the first comma or semicolon
# outside quotes and brackets.
function value_end(s,    i, n, c, depth, quoted) {
    n = length(s)
    for (i = 1; i <= n; i++) {
        c = substr(s, i, 1)
        if (c == "\\") i++
        else if (c == "\"") quoted = !quoted
        else if (quoted) continue
        else if (c ~ /[<{[]/) depth++
        else if (c ~ /[]>}]/) depth--
        else if (depth <= 0 && (c == "," || c == ";")) return i
    }
    return n + 1
}

# Splits "name=(type)value, ...;" into field[name].
function read_fields(s,    name, value, end) {
    split("", field)
    while (match(s, /^[ ,]*[A-Za-z][A-Za-z0-9_.:-]*=/)) {
        name = substr(s, 1, RLENGTH - 1)
        sub(/^[ ,]*/, "", name)
        s = substr(s, RLENGTH + 1)
        sub(/^ *\([^)]*\) */, "", s)
        end = value_end(s)
        value = substr(s, 1, end - 1)
        s = substr(s, end)
        field[name] = plain(value)
    }
}

match($0, /\(element\): nemostt, /) {
    read_fields(substr($0, RSTART + RLENGTH))
    if (field["is-final"] != "true") next
    printf "%6.2f s – %5.2f s  %s", field["start-time"] / 1e9, field["end-time"] / 1e9, field["text"]
    if ("confidence" in field) printf "  (%.2f)", field["confidence"]
    printf "\n"
    fflush()
    sentence = sentence (words++ ? " " : "") field["text"]
}

# The info message of the element, as gst-launch-1.0 prints it below INFO:
/^this is the built-in demo model/ { demo = 1 }

END {
    if (words) printf "\n%s\n", sentence
    if (words && demo) {
        printf "\nThe built-in demo model is trained on synthetic speech, for demonstration only. For real speech:\n"
        printf "  target/release/nemostt models\n  target/release/nemostt fetch NAME\n"
    }
    exit words ? 0 : 3
}
'

# The C locale keeps "(element): " untranslated, and awk from joining bytes.
status=(0 0)
GST_PLUGIN_PATH=target/plugin LC_ALL=C "${launch[@]}" |
    LC_ALL=C awk "$show_words" || status=("${PIPESTATUS[@]}")

if [ "${status[0]}" -ne 0 ]; then
    [ -f target/plugin/libgstnemostt.so ] ||
        die "the plugin is not built: run 'make build'"
    die "gst-launch-1.0 failed with exit code ${status[0]}; its message is above"
fi
[ "${status[1]}" -eq 0 ] || die "gst-launch-1.0 ran, but no word came out of nemostt"
