# shellcheck shell=bash disable=SC2154
# What the scripts share: speaking to the user, and installing Debian packages.
# The script that sources this sets "me" to its name and, before it calls
# install_packages, the array "packages".

say() { printf '%s: %s\n' "$me" "$*"; }
# The first line is marked, those after it can be copied as they are.
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
        say "system packages: already there"
        return
    fi

    local by_hand="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "these system packages are missing, and there is no sudo to install them with." \
                "Run this as root, then try again:" "  $by_hand"
        as_root=(sudo)
    fi

    say "installing system packages: ${missing[*]}"
    # An update may fail for one source of many; the install tells if it matters.
    "${as_root[@]}" apt-get update -q ||
        say "apt-get update failed; trying with the package lists at hand"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" ||
        die "the system packages could not be installed." \
            "Run this as root, then try again:" "  $by_hand"
}

# Whether this is a system whose packages have the names we know.
has_apt() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
}
