#!/bin/bash
# Reads the gateway's log on standard input and keeps one word in a file for the bridge:
# starting, logging-in, waiting-2fa, logged-in, bad-credentials, locked, restarting, stopped.
set -u
folder=${GANGWAY_STATE_PATH:-$HOME/state}
file=$folder/login-${TRADING_MODE:-paper}
held=$folder/held-${TRADING_MODE:-paper}
launcher=${1:-}
state=""
refused=0

say() {
    [ "$1" != "$state" ] && [ ! -e "$held" ] || return 0
    state=$1
    printf '%s\n' "$state" >"$file.new" && mv "$file.new" "$file"
}

# Ends the gateway and keeps it ended: one more attempt could lock the account. A new start of the
# container, which a person asks for, begins afresh.
hold() {
    say "$1"
    : >"$held"
    give_up
}

give_up() {
    [ -z "$launcher" ] || pkill -KILL -P "$launcher" -x java
}

say starting
while IFS= read -r line; do
    [ ! -e "$held" ] || give_up
    case $line in
    *"Login attempt: "*) say logging-in ;;
    *"entitled: Second Factor Authentication; event=Opened"*) say waiting-2fa ;;
    *"Second Factor Authentication initiated"*) say waiting-2fa ;;
    *"entitled: Second Factor Authentication; event=Closed"*) say logging-in ;;
    *"Duration since login: "*) say logging-in ;;
    *"Login has completed"*) refused=0; say logged-in ;;
    *"entitled: Unrecognized Username or Password; event=Opened"*) hold bad-credentials ;;
    *"Too many failed login attempts"*) hold locked ;;
    *"Login failed"* | *"Login error message:"*)
        refused=$((refused + 1))
        [ "$refused" -lt 2 ] || hold bad-credentials
        ;;
    *"IBC will restart shortly"* | *"IBC will cold-restart shortly"*) say restarting ;;
    *"Re-starting session"* | *"Cold restart in progress"*) say restarting ;;
    *"Gateway finished"*) say stopped ;;
    esac
done
say stopped
