# The journal of the machine itself stays small: a full disk stops a database and a gateway alike.

logs_title() { echo "system journal of at most 200 MB"; }

LOGS_FILE=/etc/systemd/journald.conf.d/90-gangway.conf

logs_wanted() { printf '# Written by gangway prepare.\n[Journal]\nSystemMaxUse=200M\nMaxRetentionSec=1month\n'; }

logs_check() {
    systemd || { echo "no systemd here"; return 0; }
    logs_wanted | same "$LOGS_FILE" || { echo "unbounded"; return 1; }
    last=$(systemd-analyze cat-config systemd/journald.conf 2>/dev/null | grep '^SystemMaxUse=' | tail -n 1)
    [ -z "$last" ] || [ "$last" = SystemMaxUse=200M ] || echo "but another file sets $last"
}

logs_apply() {
    logs_wanted | put "$LOGS_FILE" 644
    [ $? -le 1 ] && systemctl restart systemd-journald
}
