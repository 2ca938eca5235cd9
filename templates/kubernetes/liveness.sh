#!/bin/bash
# Usage: liveness.sh PORT...
# Whether the gateway may go on. Only one that has logged in, for ten minutes at least, and does not
# answer the API's handshake is hung: a kubelet that ends it costs a login, and perhaps an approval.
# A login that is under way, waits for a person, is held or spaced out is left alone, and so is
# whatever is not known.
set -u
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
folder=${GANGWAY_STATE_PATH:-$HOME/state}
settled=600

logged_in() { # the last thing that happened to the login of the mode $1: it has completed
    local at event rest last="" since=0 asked=0 now
    [ -r "$folder/login-$1" ] || return 1
    while read -r at event rest; do
        case $event in
        opened | closed | "") ;;
        requested | not-taken) asked=$at ;; # the bridge has it mended: that gets its time, too
        *) last=$event since=$at ;;
        esac
    done <"$folder/login-$1"
    printf -v now '%(%s)T' -1
    [ "$last" = login ] && [[ $since =~ ^[0-9]{1,11}$ && $asked =~ ^[0-9]{1,11}$ ]] &&
        ((now - 10#$since >= settled && now - 10#$asked >= settled))
}

for port in "$@"; do
    bash "$here/healthcheck.sh" "$port" && continue
    case $port in 4001) mode=live ;; *) mode=paper ;; esac
    if logged_in "$mode"; then
        echo "logged in, and the API on $port does not answer"
        exit 1
    fi
    echo "no login on $port, and that is for a person or the gateway to mend"
done
exit 0
