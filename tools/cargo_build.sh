#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Called by meson.build: builds the plugin and the command with cargo, has the
# command write its manual pages and completions, and copies the outputs that
# are asked for to where Meson expects them, without debug information. Packages
# that split it off themselves set STRIP=: in the environment.
set -eu
cargo=$1 source_dir=$2 target_dir=$3 build_dir=$PWD
shift 3
cd "$source_dir"
"$cargo" build --release --locked --features cli,serve,triton --target-dir "$target_dir"
built=$target_dir/release
command=$built/nemostt

pages=$target_dir/man
rm -rf "$pages"
"$command" man --dir "$pages"
for output; do
    to=$build_dir/$output name=${output##*/}
    case $name in
        *.1) mv "$pages/$name" "$to" ;;
        nemostt.bash) "$command" completions bash >"$to" ;;
        _nemostt) "$command" completions zsh >"$to" ;;
        nemostt.fish) "$command" completions fish >"$to" ;;
        *) cp "$built/$name" "$to" && "${STRIP:-strip}" --strip-debug "$to" ;;
    esac
done
# A subcommand that meson.build does not know.
rmdir "$pages" || { echo "add these manual pages to meson.build: $(ls "$pages")" >&2; exit 1; }
