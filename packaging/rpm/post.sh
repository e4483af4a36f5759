# Folders that hold what the package does not ship. Made once: later modes are the operator's.
# Everything is root's, so the package works the same before Wazuh and its group are there; only
# the log may be read by Wazuh's people.
for folder in /etc/o365-wodle/tenants.d /etc/o365-wodle/secrets /var/lib/o365-wodle /var/log/o365-wodle; do
    [ -d "$folder" ] || install -d -m 0750 "$folder"
done
# Also at an upgrade, since Wazuh may have come later; what is no longer root's is as the operator wants it.
if [ "$(stat -Lc %u:%g /var/log/o365-wodle)" = 0:0 ] && getent group wazuh > /dev/null; then
    chgrp wazuh /var/log/o365-wodle
fi
if [ "$1" = 1 ]; then
    chmod 0750 /etc/o365-wodle
    cat << 'NEXT'
o365-wodle tenant add NAME --from FILE   # FILE: the customer's text with the three values
o365-wodle -v run                        # the first collection
o365-wodle setup --write                 # lets Wazuh start it from now on
NEXT
    if [ -e /etc/o365-wodle/config.toml.rpmsave ]; then
        echo '/etc/o365-wodle/config.toml.rpmsave is from an earlier installation: move it over config.toml to go on with it.'
    fi
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload > /dev/null 2>&1 || true
