#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs tools/export_nemo.py in a virtual environment of its own, which it makes on the first call. Safe to run again:
# an environment that is complete is left alone, an unfinished one is finished.
set -euo pipefail

me="export"
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/packages.sh
. "$tools/packages.sh"

# NeMo with PyTorch and CUDA's libraries takes 8 GB.
need_gb=10
venv=${XDG_CACHE_HOME:-$HOME/.cache}/nemostt/export-venv
run=("$tools/export_nemo.py")
test=no

usage() {
    cat <<EOF
usage: tools/export_nemo.sh [--venv DIR] [--install-only | --test] [ARGUMENTS of export_nemo.py ...]

  --venv DIR       the virtual environment (default: $venv)
  --install-only   make it, and export nothing
  --test           run the tests of the export in it

EOF
}

while [ $# -gt 0 ]; do
    case $1 in
        --venv) venv=${2:?--venv needs a directory}; shift 2 ;;
        --venv=*) venv=${1#*=}; shift ;;
        --install-only) run=(); shift ;;
        --test) run=(-m unittest discover -v -s "$tools/../tests/export"); test=yes; shift ;;
        # Help needs no 8 GB.
        -h | --help) usage; exec python3 "$tools/export_nemo.py" --help ;;
        *) break ;;
    esac
done

# The numpy and pandas of the constraints have no wheels for older ones, torch 2.8 none for newer ones.
usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.11 to 3.13 with venv is needed, this is $(python3 --version 2>&1 || true)." \
        "Install it (Debian, Ubuntu: apt-get install python3-venv), or set PYTHON to one."
}

# Written last, so that an interrupted installation is not taken for a whole one.
stamp=$venv/nemostt-requirements
wanted=$(cat "$tools/export_requirements.txt" "$tools/export_constraints.txt" | sha256sum | cut -d ' ' -f 1)

if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    if [ ! -x "$venv/bin/python" ]; then
        python=$(find_python)
        mkdir -p "$venv"
        free_gb=$(($(df --output=avail -k "$venv" | tail -n 1) / 1024 / 1024))
        [ "$free_gb" -ge "$need_gb" ] ||
            die "NeMo takes $need_gb GB, but only $free_gb GB are free in $venv: choose another place with --venv DIR."
        "$python" -m venv "$venv"
    fi
    say "installing NeMo into $venv (8 GB, once; several minutes)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$tools/export_requirements.txt" >&2 ||
        die "NeMo could not be installed. Is there a network? Look at pip's message above, then run this again:" \
            "what was fetched is kept."
    echo "$wanted" >"$stamp"
fi

# Another reader to hear with. Not among the requirements, because no export needs it.
if [ "$test" = yes ] && ! "$venv/bin/python" -c 'import sherpa_onnx' 2>/dev/null; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check sherpa-onnx==2.0.1 >&2 ||
        say "sherpa-onnx could not be installed: its tests are left out" >&2
fi

[ "${#run[@]}" -gt 0 ] || exit 0
exec "$venv/bin/python" "${run[@]}" "$@"
