#!/bin/bash
# Sets the Java machine's options in the file that the image's launcher reads. JAVA_HEAP_SIZE and
# JAVA_TOOL_OPTIONS do not arrive; two collectors at once keep Java from starting. So: collectors,
# -Xm*, G1 tuning and whatever we set ourselves go out, ours come in. Running it twice changes nothing.
set -euo pipefail
options_file=${GANGWAY_FILES:-${0%/*}/..}/jvm.options
file=$TWS_PATH/ibgateway/${IB_GATEWAY_VERSION:-${TWS_MAJOR_VRSN:-}}/ibgateway.vmoptions
[ -f "$file" ] || {
    echo "gangway: $file is missing: the image has changed, the JVM options are not set" >&2
    exit 1
}

# The name of an option without its value: -XX:+Foo, -XX:-Foo and -XX:Foo=1 are all Foo.
name_of() {
    local name=${1#-XX:}
    name=${name#[+-]}
    printf '%s' "${name%%=*}"
}

declare -A ours=()
options=()
while IFS= read -r option || [ -n "$option" ]; do
    [ -n "$option" ] || continue
    options+=("$option")
    ours[$(name_of "$option")]=1
done <"$options_file"

unwanted() {
    case $1 in
    -Xm[nsx]*) return 0 ;;
    -XX:[+-]Use*GC | -XX:G1* | -XX:[+-]G1*) return 0 ;;
    -XX:MaxGCPauseMillis=* | -XX:ParallelGCThreads=* | -XX:ConcGCThreads=*) return 0 ;;
    -XX:InitiatingHeapOccupancyPercent=* | -XX:InitialRAMPercentage=* | -XX:MaxRAMPercentage=*) return 0 ;;
    esac
    [ -n "${ours[$(name_of "$1")]:-}" ]
}

new=$(mktemp "$file.XXXXXX")
{
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        case $line in
        \#*)
            printf '%s\n' "$line"
            continue
            ;;
        esac
        read -ra words <<<"$line" || true
        for word in "${words[@]}"; do
            unwanted "$word" || printf '%s\n' "$word"
        done
    done <"$file"
    printf '%s\n' "${options[@]}"
} >"$new"
chmod 644 "$new"
if cmp -s "$file" "$new"; then
    rm -f "$new"
else
    mv "$new" "$file"
fi
echo "gangway: JVM options are ${options[*]}"
