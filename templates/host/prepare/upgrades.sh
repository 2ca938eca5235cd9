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
}

upgrades_apply() {
    install unattended-upgrades || return 1
    upgrades_wanted | put "$UPGRADES_FILE" 644
    [ $? -le 1 ]
}
