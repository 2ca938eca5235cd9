#!/bin/bash
# Prints the command line of every Java machine in the container, one argument a line after a line
# `pid N`: the only way to see which options really arrived (the launcher hides Java's complaints).
set -u
for folder in /proc/[0-9]*; do
    [ "$(cat "$folder/comm" 2>/dev/null)" = java ] || continue
    printf 'pid %s\n' "${folder#/proc/}"
    tr '\0' '\n' <"$folder/cmdline" 2>/dev/null
done
