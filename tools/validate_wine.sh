# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: MIT OR Apache-2.0
# For tools/validate.sh on systems without gst-validate-1.0: defines gst_validate, which runs the Windows build from
# GStreamer's wheels under Wine, and builds nemostt for Windows. Everything is in target/validate ($work).

packages=(wine wine64 gcc-mingw-w64-x86-64-posix mingw-w64-x86-64-dev python3-pip)
if has_apt; then
    install_packages
else
    die "gst-validate-1.0 is missing: install GStreamer's development tools (often \"gst-devtools\")"
fi

wheels=$work/wheels gstreamer=$work/gstreamer plugins=$work/plugins imports=$work/imports
triple=x86_64-pc-windows-gnu

# ---- GStreamer and ONNX Runtime for Windows ----

if ! cmp -s tools/validate.lock "$work/lock"; then
    rm -rf "$wheels" "$gstreamer" "$work/unpacked" "$work/prefix" "$work/registry.bin"
    say "downloading GStreamer for Windows"
    python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: \
        --platform win_amd64 --python-version 3.11 --implementation cp --abi abi3 --abi cp311 \
        --dest "$wheels" -r tools/validate.lock || die "the wheels of tools/validate.lock could not be downloaded"
    mkdir -p "$gstreamer"
    for wheel in "$wheels"/*.whl; do
        python3 -m zipfile -e "$wheel" "$work/unpacked"
    done
    for part in "$work"/unpacked/*.data/purelib/gstreamer_*; do
        cp -r "$part/." "$gstreamer"
    done
    cp "$work"/unpacked/onnxruntime/capi/onnxruntime*.dll "$gstreamer/bin"
    rm -rf "$work/unpacked"

    # The scenarios include this file, which is missing in the wheel.
    scenario_dir=$gstreamer/share/gstreamer-1.0/validate/scenarios
    mkdir -p "$scenario_dir/includes"
    echo 'set-vars, default_flags="flush+accurate"' >"$scenario_dir/includes/default-seek-flags.scenario"

    # Rust's random number generator uses a library that Wine provides only since version 9.
    printf '%s\n' '#include <windows.h>' '#include <ntsecapi.h>' \
        '__declspec(dllexport) BOOL ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, length); }' |
        x86_64-w64-mingw32-gcc -shared -x c - -o "$gstreamer/bin/bcryptprimitives.dll" -ladvapi32
    cp tools/validate.lock "$work/lock"
fi

# ---- nemostt for Windows ----

# The linker can link to DLLs directly if their names match.
mkdir -p "$imports"
for library in gstreamer-1.0 gstbase-1.0 gstaudio-1.0 gobject-2.0 glib-2.0 gio-2.0; do
    ln -sf "$gstreamer/bin/$library-0.dll" "$imports/lib$library.dll"
done
write_pc() {
    printf '%s\n' "Name: $1" "Description: of the wheel" "Version: $2" "Libs: -L$imports $3" >"$imports/$1.pc"
}
write_pc glib-2.0 2.80 "-lglib-2.0"
write_pc gobject-2.0 2.80 "-lgobject-2.0 -lglib-2.0"
write_pc gio-2.0 2.80 "-lgio-2.0 -lgobject-2.0 -lglib-2.0"
for library in gstreamer gstreamer-base:gstbase gstreamer-audio:gstaudio; do
    write_pc "${library%:*}-1.0" 1.28 "-l${library#*:}-1.0 -lgstreamer-1.0 -lgobject-2.0 -lglib-2.0"
done

rustup target list --installed 2>/dev/null | grep -qx "$triple" || rustup target add "$triple" ||
    die "Rust for Windows could not be added: rustup target add $triple"
say "building nemostt for Windows"
PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=$imports PKG_CONFIG_PATH='' \
    CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc \
    "${CARGO:-cargo}" build --locked --lib --target "$triple"

# Only a few plugins: most of those in the wheel need DLLs from other wheels.
rm -rf "$plugins"
mkdir -p "$plugins"
for plugin in coreelements rawparse audioconvert audioresample typefindfunctions autodetect; do
    cp "$gstreamer/lib/gstreamer-1.0/gst$plugin.dll" "$plugins"
done
# GStreamer's reports contain backtraces, and Rust's debug information makes Wine 8 crash.
x86_64-w64-mingw32-strip -S -o "$plugins/gstnemostt.dll" "${CARGO_TARGET_DIR:-target}/$triple/debug/gstnemostt.dll"

# ---- gst-validate-1.0 ----

export WINEPREFIX=$work/prefix WINEDEBUG=-all
export GST_PLUGIN_PATH='' GST_PLUGIN_SYSTEM_PATH_1_0=Z:$plugins GST_REGISTRY=Z:$work/registry.bin GST_REGISTRY_FORK=no
export GST_VALIDATE_SCENARIOS_PATH=Z:$gstreamer/share/gstreamer-1.0/validate/scenarios
export ORT_DYLIB_PATH=Z:$gstreamer/bin/onnxruntime.dll
wine wineboot --init >/dev/null 2>&1 || true # for the first start; only its 32-bit part fails
gst_validate() { timeout 300 wine "$gstreamer/bin/gst-validate-1.0.exe" "$@"; }
