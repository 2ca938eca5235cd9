# A clock that is right: 2FA, certificates and restart times depend on it.

clock_title() { echo "clock kept in step with network time"; }

clock_service() {
    for service in chrony chronyd ntpsec ntp systemd-timesyncd; do
        systemctl is-active --quiet "$service" 2>/dev/null && { echo "$service"; return 0; }
    done
    return 1
}

clock_check() {
    systemd || { echo "no systemd here: the machine's own clock is used"; return 0; }
    service=$(clock_service) || { echo "no time service is running"; return 1; }
    echo "$service"
}

clock_apply() {
    installed chrony || installed systemd-timesyncd || install systemd-timesyncd || return 1
    if installed chrony; then systemctl enable --now chrony; else systemctl enable --now systemd-timesyncd; fi
}
