# The stack's folder: closed to everyone but root, because releases hold the broker's password. One that
# others use too stays open: each stack's own folder in it is closed by the deploy.

folder_title() { echo "$DEPLOY_FOLDER, open to root only"; }

folder_check() {
    now=$(stat -c '%a %U' "$DEPLOY_FOLDER" 2>/dev/null) || { echo "it does not exist"; return 1; }
    [ "$now" = "700 $DEPLOY_OWNER" ] && return 0
    folder_of_its_login && return 0
    others=$(folder_others) && { echo "left as it is, others use it: $others; each stack's own folder is closed"; return 0; }
    echo "it is $now"
    return 1
}

# A login without sudo has deployed into a folder of its own: to take it away would end its stacks' care.
folder_of_its_login() {
    [ "${now%% *}" = 700 ] && [ "$(stat -c %U "$DEPLOY_FOLDER"/*/lock 2>/dev/null | sort -u)" = "${now#* }" ] || return 1
    echo "it is ${now#* }'s, who deploys there"
}

# Who else uses it: to close /home, /opt or the login's own home would lock people out of the machine.
folder_others() {
    getent passwd 2>/dev/null | cut -d: -f6 | grep -qxF -- "$DEPLOY_FOLDER" && { echo "it is a user's home"; return 0; }
    for entry in "$DEPLOY_FOLDER"/* "$DEPLOY_FOLDER"/.[!.]*; do
        { [ -e "$entry" ] || [ -L "$entry" ]; } && [ ! -e "$entry/lock" ] || continue
        echo "${entry##*/} lies in it"
        return 0
    done
    case $DEPLOY_FOLDER in /*/*) return 1 ;; esac
    echo "it is one of the system's own"
}

folder_apply() { mkdir -p "$DEPLOY_FOLDER" && chown "$DEPLOY_OWNER" "$DEPLOY_FOLDER" && chmod 700 "$DEPLOY_FOLDER"; }
