#!/bin/bash
# Starts the JVM and relaunches it, without delay, as the real start script does.
set -u
version=$1
shift 2
for argument; do
    case $argument in
    --tws-path=*) tws_path=${argument#*=} ;;
    --ibc-ini=*) ini=${argument#*=} ;;
    --on2fatimeout=*) on_timeout=${argument#*=} ;;
    --tws-settings-path=*) settings=${argument#*=} ;;
    esac
done
settings=${settings:-$tws_path}
case $on_timeout in
'' | exit | restart) ;;
*) echo "Error: 2FA timeout action '$on_timeout' not valid"; exit 3 ;;
esac
[ -d "$settings" ] || { echo "Error: TWS settings path $settings does not exist"; exit 5; }
program=$tws_path/ibgateway/$version
options=$program/ibgateway.vmoptions
[ -f "$options" ] || { echo "Error: $options not found"; exit 4; }

export JAVA_TOOL_OPTIONS=
child=
trap 'kill -TERM $child 2>/dev/null; wait $child; exit 143' TERM INT

find_autorestart() {
    if [ -f "$settings/autorestart" ]; then
        echo "autorestart file found at $settings/autorestart: authentication will not be required"
    else
        echo "autorestart file not found: full authentication will be required"
    fi
}

while :; do
    find_autorestart
    flags=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '#'* | '-D'* | '') ;; *) flags="$flags $line" ;; esac
    done <"$options"
    # shellcheck disable=SC2086  # the flags are joined unquoted, as there
    java $flags -cp "$program/jars/standin.jar" standin.Gateway "$ini" "$settings" 2>/dev/null &
    child=$!
    wait $child
    status=$?
    echo "IBC returned exit status $status"
    if [ -f "$settings/autorestart" ] && [ ! -f "$settings/paused" ] && [ $status = 0 ]; then
        echo "IBC will restart shortly"
        continue
    fi
    case $status in
    76) echo "IBC will cold-restart shortly"; rm -f "$settings/autorestart" ;;
    87) [ "$on_timeout" = restart ] || { echo "Gateway finished"; exit $status; } ;;
    88) ;;
    *) echo "Gateway finished"; exit $status ;;
    esac
done
