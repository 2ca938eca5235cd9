#!/bin/bash
# Usage: healthcheck.sh PORT...
# Does the TWS API's handshake with the gateway itself (4001 live, 4002 paper): a framed answer with a
# server version within 5 seconds. Not the relay (4003, 4004), which accepts from the first second,
# and not only a connect, which a hung gateway accepts too. It needs no client id and is not a client.
set -u

handshake() {
    local port=$1 size
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf 'API\0\0\0\0\011v157..178' >&3 || return 1
    read -r -a size < <(timeout 5 head -c 4 <&3 | od -An -v -tu1)
    [ "${#size[@]}" -eq 4 ] || return 2
    local length=$((size[0] * 16777216 + size[1] * 65536 + size[2] * 256 + size[3]))
    [ "$length" -ge 2 ] && [ "$length" -le 256 ] || return 3
    local version
    version=$(timeout 5 head -c "$length" <&3 | tr '\0' '\n' | head -n 1)
    exec 3<&- 3>&-
    [[ $version =~ ^[0-9]+$ ]] && [ "$version" -ge 157 ] || return 3
    echo "API answers on $port, server version $version"
}

for port in "$@"; do
    (handshake "$port") 2>/dev/null
    case $? in
    0) ;;
    2) echo "API on $port accepts but does not answer within 5 s"; exit 1 ;;
    3) echo "API on $port answers something else"; exit 1 ;;
    *) echo "API on $port refuses: not logged in yet"; exit 1 ;;
    esac
done
