# The stack's folder: closed to everyone but root, because releases hold the broker's password.

folder_title() { echo "$DEPLOY_FOLDER, open to root only"; }

folder_check() {
    now=$(stat -c '%a %U' "$DEPLOY_FOLDER" 2>/dev/null) || { echo "it does not exist"; return 1; }
    [ "$now" = "700 $DEPLOY_OWNER" ] || { echo "it is $now"; return 1; }
}

folder_apply() { mkdir -p "$DEPLOY_FOLDER" && chown "$DEPLOY_OWNER" "$DEPLOY_FOLDER" && chmod 700 "$DEPLOY_FOLDER"; }
