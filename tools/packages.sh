# shellcheck shell=bash disable=SC2154
# Shared by the scripts: messages, and installing Debian packages. A script that
# sources this sets "me" to its name and, before it calls install_packages, the
# array "packages".

say() { printf '%s: %s\n' "$me" "$*"; }
# Only the first line has the prefix, so that commands below it can be copied.
die() {
    printf '%s: %s\n' "$me" "$1" >&2
    [ $# -eq 1 ] || printf '%s\n' "${@:2}" >&2
    exit 1
}

is_installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

install_packages() {
    local missing=() as_root=() package
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        say "system packages: already installed"
        return
    fi

    local manual="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "system packages are missing, and sudo is not available to install them." \
                "Run this as root, then try again:" "  $manual"
        as_root=(sudo)
    fi

    say "installing system packages: ${missing[*]}"
    # An update can fail because of a single source; the installation shows whether that matters.
    "${as_root[@]}" apt-get update -q ||
        say "apt-get update failed; trying with the existing package lists"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" ||
        die "the system packages could not be installed." \
            "Run this as root, then try again:" "  $manual"
}

# Whether packages have Debian's names on this system.
has_apt() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
}
