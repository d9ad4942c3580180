#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs tools/export_nemo.py in a virtual environment, which it makes on the first call, once the arguments are checked.
# Safe to run again: a complete environment is left alone, an unfinished one is finished.
set -euo pipefail

me="export"
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/packages.sh
. "$tools/packages.sh"

# NeMo with PyTorch and CUDA's libraries takes 8 GB.
need_gb=10
venv=${XDG_CACHE_HOME:-$HOME/.cache}/nemostt/export-venv
script=$tools/export_nemo.py
action=export

usage() {
    cat <<EOF
usage: tools/export_nemo.sh [--venv DIR] [--install-only | --test] [ARGUMENTS of export_nemo.py ...]

  --venv DIR       virtual environment to use (default: $venv)
  --install-only   install NeMo into it, and export nothing
  --test           run the tests of the export

EOF
}

# The options of this script, wherever they are; all others are for export_nemo.py.
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --venv) [ $# -gt 1 ] || die "--venv needs a directory"; venv=$2; shift ;;
        --venv=*) venv=${1#*=} ;;
        --install-only) action=install ;;
        --test) action=test ;;
        -h | --help) action=help ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
[ -n "$venv" ] || die "--venv needs a directory"
[ ! -e "$venv" ] || [ -d "$venv" ] || die "--venv $venv is a file: give a directory"

if [ "$action" = help ]; then
    usage
    exec python3 "$script" --help
fi

# Before 8 GB are installed: what can be wrong with the arguments. Any Python that reads the script will do; without one,
# the check comes after the installation.
check_arguments() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || return 0
    python3 "$script" --check-arguments "$@"
}

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
    [ "$action" != export ] || check_arguments "${arguments[@]}"
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

# For tests only: no export needs it.
if [ "$action" = test ] && ! "$venv/bin/python" -c 'import sherpa_onnx' 2>/dev/null; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check sherpa-onnx==2.0.1 >&2 ||
        say "sherpa-onnx could not be installed: its tests are skipped" >&2
fi

case $action in
    export) exec "$venv/bin/python" "$script" "${arguments[@]}" ;;
    test) exec "$venv/bin/python" -m unittest discover -v -s "$tools/../tests/export" "${arguments[@]}" ;;
esac
