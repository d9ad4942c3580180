#!/bin/sh
# Called by meson.build: builds the plugin and the command with cargo and copies
# them to the output paths that Meson expects.
set -eu
cargo=$1 source_dir=$2 target_dir=$3 build_dir=$PWD
shift 3
cd "$source_dir"
"$cargo" build --release --locked --features cli --target-dir "$target_dir"
for output; do
    cp "$target_dir/release/${output##*/}" "$build_dir/$output"
done
