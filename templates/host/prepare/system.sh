# A supported distribution, and the few packages that the deploys rely on.

system_title() { echo "Debian 12/13 or Ubuntu 22.04/24.04, with python3, curl and iptables"; }

SYSTEM_PACKAGES="ca-certificates curl iptables python3 kmod procps"

system_supported() {
    . /etc/os-release
    case "$ID:${VERSION_ID:-}" in
    debian:12 | debian:13 | ubuntu:22.04 | ubuntu:24.04) return 0 ;;
    esac
    echo "this is ${PRETTY_NAME:-an unknown system}, which gangway is not tested on"
    return 1
}

system_check() {
    system_supported || return 1
    lacking=$(missing $SYSTEM_PACKAGES)
    [ -z "$lacking" ] || { echo "not installed: $lacking"; return 1; }
}

system_apply() {
    system_supported || return 1
    install $SYSTEM_PACKAGES
}
