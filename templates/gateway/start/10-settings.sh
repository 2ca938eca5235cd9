#!/bin/bash
# Puts jts.ini where the image looks for it, and mends a stale time zone in an existing one: the
# image itself writes the file only when it is missing, so a changed zone would never arrive.
set -euo pipefail
source_file=${GANGWAY_FILES:-${0%/*}/..}/jts.ini

zone=""
while IFS= read -r line || [ -n "$line" ]; do
    case $line in TimeZone=*) zone=${line#TimeZone=} ;; esac
done <"$source_file"

# Rewrites TimeZone in the [Logon] section, or adds it there; everything else stays as it is.
mend_zone() {
    local file=$1 new section="" written="" line bare
    new=$(mktemp "$file.XXXXXX")
    while IFS= read -r line || [ -n "$line" ]; do
        bare=${line%$'\r'}
        case $bare in
        \[*)
            if [ "$section" = "[Logon]" ] && [ -z "$written" ]; then
                printf 'TimeZone=%s\n' "$zone"
                written=yes
            fi
            section=$bare
            ;;
        TimeZone=*)
            if [ "$section" = "[Logon]" ]; then
                [ -n "$written" ] || printf 'TimeZone=%s\n' "$zone"
                written=yes
                continue
            fi
            ;;
        esac
        printf '%s\n' "$line"
    done <"$file" >"$new"
    if [ -z "$written" ]; then
        [ "$section" = "[Logon]" ] || printf '\n[Logon]\n' >>"$new"
        printf 'TimeZone=%s\n' "$zone" >>"$new"
    fi
    if cmp -s "$file" "$new"; then
        rm -f "$new"
    else
        chmod 600 "$new"
        mv "$new" "$file"
        echo "gangway: time zone in $file set to $zone"
    fi
}

case ${TRADING_MODE:-} in
both) folders=("${TWS_SETTINGS_PATH}_live" "${TWS_SETTINGS_PATH}_paper") ;;
*) folders=("$TWS_SETTINGS_PATH") ;;
esac
stale=(-mmin +10)
! grep -qs cold "${GANGWAY_STATE_PATH:-$HOME/state}/afresh" || stale=()
for folder in "${folders[@]}"; do
    mkdir -p "$folder"
    # A token of an interrupted restart blocks the next login; a fresh one may still be good, unless
    # a person has asked for a full login.
    find "$folder" -maxdepth 2 -name autorestart "${stale[@]}" -print -delete
    if [ -f "$folder/jts.ini" ]; then
        mend_zone "$folder/jts.ini"
    else
        (umask 077 && cp "$source_file" "$folder/jts.ini.new")
        mv "$folder/jts.ini.new" "$folder/jts.ini"
        echo "gangway: wrote $folder/jts.ini"
    fi
done
