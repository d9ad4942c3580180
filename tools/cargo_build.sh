#!/bin/sh
# Called by meson.build: builds the plugin with cargo and copies it to where
# Meson expects it.
set -eu
cargo=$1 source_dir=$2 target_dir=$3 output=$PWD/$4
cd "$source_dir"
"$cargo" build --release --locked --target-dir "$target_dir"
cp "$target_dir/release/libgstnemostt.so" "$output"
