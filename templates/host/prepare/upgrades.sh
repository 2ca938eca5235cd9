# Security upgrades by themselves, without reboots; and never of the engine, whose restart belongs to a person.

upgrades_title() { echo "unattended security upgrades, the engine left out"; }

UPGRADES_FILE=/etc/apt/apt.conf.d/52gangway-upgrades

upgrades_wanted() {
    cat <<'EOF'
// Written by gangway prepare.
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Package-Blacklist { "^docker"; "^containerd"; "^runc"; };
EOF
}

upgrades_check() {
    installed unattended-upgrades || { echo "unattended-upgrades is not installed"; return 1; }
    upgrades_wanted | same "$UPGRADES_FILE" || { echo "not configured"; return 1; }
    upgrades_overruled
}

# What another file of apt's, or somebody's hand, makes of it: theirs to decide, and told.
upgrades_overruled() {
    told=$(apt-config dump 2>/dev/null)
    case $told in *'Unattended-Upgrade::Automatic-Reboot "true"'*) echo "but another file of apt.conf.d has the machine reboot by itself: a new login each time" ;; esac
    case $told in *'APT::Periodic::Enable "0"'* | *'APT::Periodic::Unattended-Upgrade "0"'*) echo "but another file of apt.conf.d switches them off" ;; esac
    systemd || return 0
    systemctl is-enabled --quiet apt-daily-upgrade.timer || echo "but apt-daily-upgrade.timer is off: none comes"
}

upgrades_apply() {
    install unattended-upgrades || return 1
    upgrades_wanted | put "$UPGRADES_FILE" 644
    [ $? -le 1 ]
}
