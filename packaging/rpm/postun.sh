# An rpm has no purge: tenants, secrets, ledger and log stay. Empty folders go, those of the package's
# own files too, which the tool that makes it cannot list.
if [ "$1" = 0 ]; then
    for folder in /etc/o365-wodle/tenants.d /etc/o365-wodle/secrets /etc/o365-wodle /var/lib/o365-wodle /var/log/o365-wodle \
        /usr/share/o365-wodle /usr/share/doc/o365-wodle /usr/share/licenses/o365-wodle; do
        rmdir "$folder" 2> /dev/null || true
    done
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload > /dev/null 2>&1 || true
