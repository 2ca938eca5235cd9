# The frame of the preparation: runs each step's check, and its work only where the check says so.
# A step NAME is three functions: NAME_check (exit 0: nothing to do; may print what it found),
# NAME_apply (idempotent; a break in the middle is mended by running it again), NAME_title.
# Prints one JSON line per step: {"step", "title", "state": ok|would-change|changed|failed, "detail"}.
set -u
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

DRY_RUN=${DRY_RUN:-0}
APT_LOCK_SECONDS=${APT_LOCK_SECONDS:-600}
FAILED=0
UPDATED=0

json() { printf '%s' "$1" | tr '\n\t\r' '   ' | sed 's/\\/\\\\/g; s/"/\\"/g'; }

report() { printf '{"step": "%s", "title": "%s", "state": "%s", "detail": "%s"}\n' "$1" "$(json "$2")" "$3" "$(json "${4:-}")"; }

has() { command -v "$1" >/dev/null 2>&1; }

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

missing() {
    for package in "$@"; do installed "$package" || printf '%s ' "$package"; done
}

# How long the machine runs already: the clock may be set meanwhile.
seconds() { read -r up _ </proc/uptime && echo "${up%%.*}"; }

# apt ARGUMENTS: waits for whoever holds a lock of apt's (a fresh machine updates itself at once, and
# for the lists' lock apt-get itself does not wait), tries again what the network has broken off, and
# mends what a power loss left half done.
apt() {
    left=$APT_LOCK_SECONDS
    tries=3
    while :; do
        began=$(seconds)
        said=$(apt-get -qq -o DPkg::Lock::Timeout="$left" -o Acquire::Retries=3 "$@" 2>&1 >/dev/null) && return 0
        case $said in
        *"Could not get lock"* | *"Unable to lock"* | *"Unable to acquire"*)
            [ "$left" -gt 0 ] || { echo "apt is busy: $said"; return 1; }
            sleep 3
            took=$(($(seconds) - began)) # for dpkg's own lock apt-get itself has waited
            [ "$took" -ge 3 ] || took=3
            left=$((left - took))
            [ "$left" -gt 0 ] || left=0
            ;;
        *"dpkg was interrupted"* | *"fix-broken install"* | *"half-installed"*)
            # What a power loss in the middle of an installation leaves: it is gone through with.
            tries=$((tries - 1))
            [ $tries -gt 0 ] || { echo "$said"; return 1; }
            dpkg --configure -a --force-confold >/dev/null 2>&1
            apt-get -qq -y -o Dpkg::Options::=--force-confold --fix-broken install >/dev/null 2>&1
            # One whose files were being written has to be installed once more.
            torn=$(dpkg-query -W -f '${db:Status-Abbrev}|${Package}\n' | awk -F'|' 'substr($1, 3, 1) == "R" { print $2 }')
            # shellcheck disable=SC2086 # names of packages
            [ -z "$torn" ] || apt-get -qq -y -o Dpkg::Options::=--force-confold --reinstall install $torn >/dev/null 2>&1
            ;;
        *"could not be parsed or opened"*)
            tries=$((tries - 1))
            [ $tries -gt 0 ] || { echo "$said"; return 1; }
            rm -rf /var/lib/apt/lists/*
            apt-get -qq update >/dev/null 2>&1
            ;;
        *)
            tries=$((tries - 1))
            [ $tries -gt 0 ] || { echo "$said"; return 1; }
            sleep 3
            ;;
        esac
    done
}

refresh() {
    [ "$UPDATED" = 1 ] && return 0
    apt update && UPDATED=1
}

install() {
    refresh && apt -y -o Dpkg::Options::=--force-confold --no-install-recommends install "$@"
}

# put PATH MODE < content: replaces the file at once, never half-written, also when the power fails:
# the content is on the disk before its name, the name before the next step. 1: nothing changed.
put() {
    mkdir -p "$(dirname "$1")" && cat >"$1.gangway-new" && chmod "$2" "$1.gangway-new" || return 2
    if cmp -s "$1" "$1.gangway-new"; then rm -f "$1.gangway-new"; return 1; fi
    sync "$1.gangway-new" && mv -f "$1.gangway-new" "$1" && sync "$(dirname "$1")" || return 2
}

# damaged FILE: whether a power loss left holes in it (a file system shows them as NUL bytes).
damaged() { [ -f "$1" ] && [ "$(tr -d '\000' <"$1" | wc -c)" -ne "$(wc -c <"$1")" ]; }

# same FILE < content: byte by byte, because a shell drops the NULs that a power loss leaves.
same() { cmp -s - "$1"; }

systemd() { [ -d /run/systemd/system ]; }

# A machine that has just started is still starting these: not running yet is no fault of theirs.
# Nothing is waited for that the boot itself waits for, so this also runs from cloud-init.
settled() {
    systemd || return 0
    left=180
    while [ $left -gt 0 ] && systemctl list-jobs --no-legend 2>/dev/null | grep -Eq ' (docker|gangway-[a-z]+)\.service '; do
        sleep 2
        left=$((left - 2))
    done
}

step() {
    name=$1
    title=$("${name}_title")
    found=$("${name}_check" 2>&1) && { report "$name" "$title" ok "$found"; return; }
    [ "$DRY_RUN" = 1 ] && { report "$name" "$title" would-change "$found"; return; }
    log=$("${name}_apply" 2>&1)
    status=$?
    sync  # what systemctl, mkswap and packages' scripts wrote, before it is called done
    if [ $status -eq 0 ] && after=$("${name}_check" 2>&1); then
        report "$name" "$title" changed "$found"
    else
        [ $status -eq 0 ] && log="still not as it should be: $after"
        report "$name" "$title" failed "$(printf '%s' "$log" | tail -n 4)"
        FAILED=1
    fi
}
