#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs the Debian package with apt in a new root directory with nothing but apt in it, uses the plugin, the command
# and the manual pages, removes the package and looks for what it left. No environment variables help to find anything.
set -euo pipefail
me=deb-test
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

usage() {
    cat <<'END'
usage: tools/test_deb.sh [PACKAGE]

  PACKAGE   a .deb; that in target/debian if not given
END
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }
package=$(realpath -m "${1:-/dev/null}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -eq 1 ] || package=$(realpath -m target/debian/nemostt_*.deb)
[ -f "$package" ] || die "$package is no file: run 'make deb' first"
[ "$(id -u)" -eq 0 ] || die "a new root directory takes root: run this with sudo"
has_apt || die "this is not Debian or Ubuntu"
packages=(mmdebstrap)
install_packages

suite=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
root=$(mktemp -d)
# What was mounted went with its namespace; --one-file-system for the case that it did not.
trap 'rm -rf --one-file-system "$root"' EXIT
say "making a $suite with nothing but apt in it"
mmdebstrap --quiet --variant=apt "$suite" "$root"
cp "$package" "$root/root/nemostt.deb"
cp assets/demo.wav "$root/root/demo.wav"
cp /etc/resolv.conf "$root/etc/resolv.conf"

# Runs its arguments in there, with no variables but these.
inside() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --pid --fork sh -c '
        mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
        exec chroot "$0" "$@"' "$root" \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} "$@" </dev/null
}

# Runs $3… in there and demands that its output matches $2.
expect() {
    local what=$1 pattern=$2 output
    shift 2
    output=$(inside "$@" 2>&1) || die "$what failed:" "$output"
    grep -qE "$pattern" <<<"$output" || die "$what printed no '$pattern':" "$output"
    say "$what: $(grep -E "$pattern" <<<"$output" | head -n 1 | cut -c 1-100)"
}

say "installing $(basename "$package") with apt"
inside apt-get update -q >"$root/log" 2>&1 || die "apt-get update failed:" "$(cat "$root/log")"
# Recommended packages by name: no others are wanted here.
inside apt-get install -q -y --no-install-recommends /root/nemostt.deb \
    gstreamer1.0-tools gstreamer1.0-plugins-good man-db >"$root/log" 2>&1 ||
    die "the package could not be installed:" "$(tail -n 20 "$root/log")"
inside dpkg -L nemostt >"$root/files"

sentence='turn off the bedroom lamp seven three nine'
expect 'nemostt --version' '^nemostt [0-9]' nemostt --version
expect 'nemostt transcribe' "^$sentence" nemostt transcribe /root/demo.wav
expect 'nemostt check' 'RNN-T|rnnt' nemostt check
expect gst-inspect-1.0 'Long-name' gst-inspect-1.0 nemostt
expect gst-launch-1.0 'text=\(string\)bedroom' gst-launch-1.0 -m filesrc location=/root/demo.wav \
    ! wavparse ! audioconvert ! audioresample ! nemostt ! fakesink
expect 'man -w nemostt' '^/usr/share/man/man1/nemostt.1' man -w nemostt
expect 'man -w nemostt-transcribe' '^/usr/share/man/man1/nemostt-transcribe.1' man -w nemostt-transcribe
# shellcheck disable=SC2016 # for the inner shell
expect 'completion for bash' '_nemostt' \
    bash -c '. /usr/share/bash-completion/completions/nemostt && complete -p nemostt'
expect 'copyright' 'License: Expat or Apache-2.0' cat /usr/share/doc/nemostt/copyright

say "removing it"
rm "$root/root/nemostt.deb"
inside apt-get purge -q -y nemostt >"$root/log" 2>&1 || die "it could not be removed:" "$(tail -n 20 "$root/log")"
while read -r file; do
    [ -d "$root$file" ] || [ ! -e "$root$file" ] || die "$file was left"
done <"$root/files"
left=$(find "$root" -xdev -path "$root/proc" -prune -o -name '*nemostt*' -print)
[ -z "$left" ] || die "these were left:" "$left"
expect 'gst-inspect-1.0' '^gone$' sh -c 'gst-inspect-1.0 --exists nemostt || echo gone'
say "nothing was left"
