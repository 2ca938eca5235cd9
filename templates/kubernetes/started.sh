#!/bin/bash
# Usage: started.sh PORT...
# Whether a session has logged in, be it one of several: what waits for a person in the other one for
# a day would have a kubelet end the container, and with it the session that works.
set -u
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
for port in "$@"; do
    bash "$here/healthcheck.sh" "$port" && exit 0
done
exit 1
