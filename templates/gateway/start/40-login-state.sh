#!/bin/bash
# Lets the gateway's log pass a watcher that keeps the login's state in a file, so that the bridge
# can tell "waiting for 2FA" from "down". A line is added to IBC's start script, because nothing
# else in the image sees the log. `tee -p` goes on when the watcher ends: the log never depends on it.
# When the watcher has ended a hopeless login, the start script does not end either: the container
# stays up without a gateway, because the engine would start it again, and with it the next attempt.
set -euo pipefail
here=$(cd "${0%/*}/.." && pwd)
file=${IBC_PATH:-$HOME/ibc}/scripts/ibcstart.sh
[ -f "$file" ] || {
    echo "gangway: $file is missing: the image has changed, the login's state is not watched" >&2
    exit 1
}

held=${GANGWAY_STATE_PATH:-$HOME/state}/held
rm -f "$held"-*

mark='# gangway: the login state'
new=$(mktemp "$file.XXXXXX")
first=yes
{
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in *"$mark") continue ;; esac
        printf '%s\n' "$line"
        if [ -n "$first" ]; then
            printf 'exec > >(exec tee -p >(exec bash %q $$ >/dev/null 2>&1)) %s\n' "$here/login-state.sh" "$mark"
            printf 'gangway_log=$!; gangway_held=%q-${TRADING_MODE:-paper} %s\n' "$held" "$mark"
            printf 'trap '\''exec >&-; wait "$gangway_log"; if [ -e "$gangway_held" ]; then sleep infinity & wait; fi'\'' EXIT %s\n' "$mark"
            first=""
        fi
    done <"$file"
} >"$new"
chmod 755 "$new"
if cmp -s "$file" "$new"; then
    rm -f "$new"
else
    mv "$new" "$file"
fi
