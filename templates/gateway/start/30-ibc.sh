#!/bin/bash
# Sets what the image has no variable for, in the template that it renders config.ini from.
# The lines of ibc.settings are KEY=VALUE; ${NAME} in a value is filled in by the image later.
set -euo pipefail
settings_file=${GANGWAY_FILES:-${0%/*}/..}/ibc.settings
file=$IBC_INI_TMPL
[ -f "$file" ] || {
    echo "gangway: $file is missing: the image has changed, IBC's settings are not set" >&2
    exit 1
}

declare -A values=()
keys=()
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
    "" | \#*) continue ;;
    esac
    keys+=("${line%%=*}")
    values[${line%%=*}]=${line#*=}
done <"$settings_file"

declare -A written=()
new=$(mktemp "$file.XXXXXX")
{
    while IFS= read -r line || [ -n "$line" ]; do
        key=${line%%=*}
        if [ "$key" != "$line" ] && [ -n "$key" ] && [ -n "${values[$key]+set}" ]; then
            [ -n "${written[$key]:-}" ] || printf '%s=%s\n' "$key" "${values[$key]}"
            written[$key]=1
        else
            printf '%s\n' "$line"
        fi
    done <"$file"
    for key in "${keys[@]}"; do
        [ -n "${written[$key]:-}" ] || printf '%s=%s\n' "$key" "${values[$key]}"
    done
} >"$new"
chmod 600 "$new"
if cmp -s "$file" "$new"; then
    rm -f "$new"
else
    mv "$new" "$file"
fi
echo "gangway: IBC settings are ${keys[*]}"
