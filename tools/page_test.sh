#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests the page of `nemostt live --serve` in a browser: headless Chromium, driven by Playwright, with the accessibility rules of
# axe-core, and the stream of `nemostt live --hls` with hls.js. Makes a virtual environment in target/page-test on the first call. Safe to run again: installs only what is missing.
#
#   CHROMIUM   the browser [default: the system's, else Playwright's own]
#   NEMOSTT    the command [default: target/release/nemostt]
#   HLS_PLUGIN_PATH   where libgsthlssink3.so is [default: target/interop/debug]
set -euo pipefail

me=page_test
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'END'
usage: tools/page_test.sh [--page-only] [ARGUMENTS of pytest ...]
       tools/page_test.sh --screenshot FILE.png

  --page-only         leave out the tests with the real command, which need "make build"
  --screenshot FILE   take the README's picture of the page, and test nothing
END
}

action=test page_only=no screenshot=
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --page-only) page_only=yes; shift ;;
    --screenshot) [ $# -eq 2 ] || { usage >&2; exit 2; }; action=screenshot screenshot=$(realpath -m "$2") ;;
esac

work=$PWD/target/page-test
venv=$work/venv

# ---- Browser ----

find_browser() {
    local candidate
    for candidate in ${CHROMIUM:+"$CHROMIUM"} chromium chromium-browser google-chrome; do
        command -v "$candidate" && return
    done
    return 1
}

if ! CHROMIUM=$(find_browser) && has_apt; then
    # The font: text has no size without one.
    packages=(chromium fonts-dejavu-core)
    install_packages
    CHROMIUM=$(find_browser) || true
fi
export CHROMIUM

# ---- Python ----

if ! cmp -s tests/page/requirements.txt "$venv/requirements.txt"; then
    say "installing Playwright and pytest into $venv"
    python3 -m venv "$venv" ||
        die "Python's venv is needed. On Debian and Ubuntu:" "  apt-get install python3-venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/page/requirements.txt ||
        die "tests/page/requirements.txt could not be installed: look at pip's message above"
    # Last, so that an interrupted installation is not taken for a whole one.
    cp tests/page/requirements.txt "$venv/requirements.txt"
fi
if [ -z "$CHROMIUM" ]; then
    say "there is no Chromium on this system; downloading Playwright's"
    "$venv/bin/playwright" install chromium ||
        die "no browser: install Chromium, or set CHROMIUM to one"
fi

if [ "$action" = screenshot ]; then
    exec "$venv/bin/python" tests/page/screenshot.py "$screenshot"
fi

# ---- Scripts from npm ----

# Sets "script" to a FILE of the package that LOCK names, and downloads it if it is not here.
npm_file() { # LOCK FILE
    local package version integrity scratch got
    read -r package version integrity < <(grep -v '^#' "$1")
    script=$work/$package-$version/package/$2
    [ ! -f "$script" ] || return 0
    command -v npm >/dev/null || die "npm is missing: it downloads $package. On Debian and Ubuntu:" "  apt-get install npm"
    say "downloading $package $version"
    scratch=$(mktemp -d "$work/npm.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$scratch'" EXIT
    (cd "$scratch" && npm pack --silent "$package@$version" >/dev/null) || die "npm could not download $package@$version"
    got=sha512-$(openssl dgst -sha512 -binary "$scratch/$package-$version.tgz" | base64 -w 0)
    [ "$got" = "$integrity" ] ||
        die "$package-$version.tgz has the wrong checksum and is not used:" "  expected $integrity" "  got      $got"
    tar -xzf "$scratch/$package-$version.tgz" -C "$scratch" "package/$2"
    mkdir -p "$work/$package-$version"
    mv "$scratch/package" "$work/$package-$version"
    rm -rf "$scratch"
}

npm_file tests/page/axe.lock axe.min.js
export AXE_CORE=$script

# ---- Tests ----

export NEMOSTT=${NEMOSTT:-$PWD/target/release/nemostt}
export HLS_PLUGIN_PATH=${HLS_PLUGIN_PATH:-$PWD/target/interop/debug}
arguments=("$@")
if [ "$page_only" = yes ]; then
    arguments+=(--ignore=tests/page/test_command.py --ignore=tests/page/test_hls.py)
    say "without the real command: --page-only"
elif [ ! -x "$NEMOSTT" ]; then
    die "$NEMOSTT is missing: run 'make build' first, or leave it out with --page-only"
elif [[ $("$NEMOSTT" live --help) != *--serve* ]]; then
    die "$NEMOSTT was built without the feature serve: build it with it, or leave it out with --page-only"
elif [ -f "$HLS_PLUGIN_PATH/libgsthlssink3.so" ]; then
    npm_file tests/page/hls.lock dist/hls.min.js
    export HLS_JS=$script
else
    say "without HLS: $HLS_PLUGIN_PATH has no libgsthlssink3.so, which \"make interop\" builds"
    arguments+=(--ignore=tests/page/test_hls.py)
fi
"$venv/bin/python" -m pytest -p no:cacheprovider tests/page "${arguments[@]}"
