#!/bin/bash
# Puts login.sh around IBC's start script, so that the login is watched, held and spaced out (see
# there). Nothing else in the image sees the log, and only the loop in that script launches Java. The
# script itself stays as it is but for one line in that loop; what it ends with, we end with.
set -euo pipefail
here=$(cd "${GANGWAY_FILES:-${0%/*}/..}" && pwd)
state=${GANGWAY_STATE_PATH:-$HOME/state}

# A person has asked for this start: what was held is tried again, and no pause is left over.
if [ -e "$state/afresh" ]; then
    for facts in "$state"/login-live "$state"/login-paper; do
        [ ! -e "$facts" ] || printf '%(%s)T begin\n' -1 >>"$facts" || : # a full disk ends no hook
    done
    rm -f "$state"/held-* "$state/afresh"
    rm -rf "${GANGWAY_SPARE_PATH:-/dev/shm/gangway}"
fi

# ibg-controller does without IBC's script: what it says of itself is recorded beside it.
if [ "${USE_IBG_CONTROLLER:-}" = yes ]; then
    case ${TRADING_MODE:-paper} in
    both) modes=(live paper) ;;
    *) modes=("${TRADING_MODE:-paper}") ;;
    esac
    for mode in "${modes[@]}"; do
        settings=${TWS_SETTINGS_PATH:-}
        [ "${#modes[@]}" = 1 ] || settings=${settings:+${settings}_$mode}
        port=${GANGWAY_HEALTH_PORT:-8080}
        [ "$mode" = live ] || [ "${#modes[@]}" = 1 ] || port=$((port + 1))
        printf '%(%s)T by ibg-controller\n%(%s)T boot\n' -1 -1 >>"$state/login-$mode" || :
        [ -z "${TWOFACTOR_CODE_FILE:-}" ] || printf '%(%s)T totp\n' -1 >>"$state/login-$mode" || :
        TRADING_MODE=$mode TWS_SETTINGS_PATH=$settings GANGWAY_HEALTH_PORT=$port \
            nohup bash -c 'bash "$0" requests & bash "$0" watch | bash "$0" recording' "$here/login.sh" \
            </dev/null >/dev/null 2>&1 &
    done
    exit 0
fi

file=${IBC_PATH:-$HOME/ibc}/scripts/ibcstart.sh
image=${file%.sh}.image.sh
mark='# gangway: the login'
[ -f "$file" ] || {
    echo "gangway: $file is missing: the image has changed, the login is not watched" >&2
    exit 1
}
grep -q "$mark" "$file" || cp -p "$file" "$image"

new=$(mktemp "$file.XXXXXX")
loops=0
{
    looped=""
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in *"$mark") continue ;; esac
        printf '%s\n' "$line"
        case $line in
        "while :" | "while : ") looped=yes ;;
        "while :; do" | "while true; do") looped=yes loops=$((loops + 1)) ;;
        do) [ -z "$looped" ] || loops=$((loops + 1)) ;;
        *) looped="" ;;
        esac
        if [ -n "$looped" ] && [ "${line##* }" = do ]; then
            printf 'bash %q gate "${tws_settings_path:-${TWS_SETTINGS_PATH:-}}" & wait "$!" || : %s\n' \
                "$here/login.sh" "$mark"
            looped=""
        fi
    done <"$image"
    [ "$loops" = 1 ] ||
        echo "gangway: $image has $loops loops: the image has changed, attempts are not spaced out" >&2
} >"$new"
chmod 755 "$new"
if cmp -s "$image" "$new"; then rm -f "$new"; else mv "$new" "$image"; fi

new=$(mktemp "$file.XXXXXX")
{
    printf '#!/bin/bash\n'
    printf '[ ! -r %q ] || exec bash %q launch %q "$@" %s\n' \
        "$here/login.sh" "$here/login.sh" "$image" "$mark"
    printf 'exec %q "$@" %s\n' "$image" "$mark"
} >"$new"
chmod 755 "$new"
if cmp -s "$file" "$new"; then rm -f "$new"; else mv "$new" "$file"; fi
