# Before an upgrade unpacks (%pre) and before the last version goes (%preun). In both, 1 is the case
# with nothing to do: a first installation, and the old version's leave after an upgrade.
[ "$1" != 1 ] || exit 0
# A run in progress ends in order before its program is replaced or removed: it stops sending,
# commits, and leaves within seconds. What it had not done, the next run does.
tries=0
while [ "$tries" -lt 40 ]; do
    found=
    for process in /proc/[0-9]*; do
        if [ "$process/exe" -ef /usr/bin/o365-wodle ]; then
            found=yes
            [ "$tries" -gt 0 ] || kill -TERM "${process#/proc/}" 2> /dev/null || true
        fi
    done
    [ -n "$found" ] || break
    tries=$((tries + 1))
    sleep 0.25
done
# Disabled as well, so another installation has no timer to start; an upgrade leaves it alone.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now o365-wodle.timer > /dev/null 2>&1 || true
fi
exit 0
