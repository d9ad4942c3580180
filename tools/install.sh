#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs what "make build" built, or removes it again. Run by "make install" and "make uninstall", which set the
# variables that are used here.
set -euo pipefail
me=${1:-}
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

plugin=$PLUGINDIR/libgstnemostt.so
runtime=$ORTDIR/$ORT_NAME
command=$BINDIR/nemostt
completions=("$BASHDIR/nemostt" "$ZSHDIR/_nemostt" "$FISHDIR/nemostt.fish")
shells=(bash zsh fish)

list() { printf '  %-14s%s\n' "$1" "$2"; }

# Whether the list $1, separated by colons, has the directory $2.
has() { case ":$1:" in *":$2:"* | *":$2/:"*) true ;; *) false ;; esac }

install_all() {
    local i
    install -D -m 755 target/plugin/libgstnemostt.so "$DESTDIR$plugin"
    [ -n "$OWN_ORT" ] || install -D -m 755 "target/plugin/$ORT_NAME" "$DESTDIR$runtime"
    install -D -m 755 "$COMMAND" "$DESTDIR$command"
    "$STRIP" --strip-debug "$DESTDIR$command"
    "$COMMAND" man --dir "$DESTDIR$MANDIR"
    for i in "${!shells[@]}"; do
        install -d "$(dirname "$DESTDIR${completions[i]}")"
        "$COMMAND" completions "${shells[i]}" >"$DESTDIR${completions[i]}"
    done

    say "installed${DESTDIR:+ below $DESTDIR}:"
    list plugin "$plugin"
    if [ -n "$OWN_ORT" ]; then
        list 'ONNX Runtime' "not copied: ORT_DYLIB_PATH must also be set when the plugin or the command runs"
    else
        list 'ONNX Runtime' "$runtime"
    fi
    list command "$command"
    list 'manual pages' "$MANDIR/nemostt*.1"
    for i in "${!shells[@]}"; do
        list "for ${shells[i]}" "${completions[i]}"
    done
}

# What the user still has to do to find it all.
advise() {
    local searched
    searched=$(pkg-config --variable=pluginsdir gstreamer-1.0 2>/dev/null || true)
    searched=$searched:${XDG_DATA_HOME:-$HOME/.local/share}/gstreamer-1.0/plugins:${GST_PLUGIN_PATH:-}
    has "$searched" "$PLUGINDIR" ||
        say "GStreamer does not search $PLUGINDIR: export GST_PLUGIN_PATH=\"$PLUGINDIR\""
    has "$PATH" "$BINDIR" ||
        say "$BINDIR is not in PATH: export PATH=\"$BINDIR:\$PATH\", also in the shell's start file"
}

remove_all() {
    rm -f "$DESTDIR$plugin" "$DESTDIR$runtime" "$DESTDIR$command"
    rm -f "$DESTDIR$MANDIR"/nemostt.1 "$DESTDIR$MANDIR"/nemostt-*.1 "${completions[@]/#/$DESTDIR}"
    # A directory of its own.
    [ "$ORTDIR" = "$PLUGINDIR" ] || rmdir "$DESTDIR$ORTDIR" 2>/dev/null || true
    say "removed $plugin, $command, their ONNX Runtime, manual pages and completions${DESTDIR:+ below $DESTDIR}"
}

case $me in
    install)
        install_all
        [ -n "$DESTDIR" ] || advise
        ;;
    uninstall) remove_all ;;
    *) die "run this with 'make install' or 'make uninstall'" ;;
esac
