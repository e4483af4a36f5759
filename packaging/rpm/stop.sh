# Before an upgrade unpacks (%pre) and before the last version goes (%preun). In both, 1 is the case
# with nothing to do: a first installation, and the old version's leave after an upgrade.
[ "$1" != 1 ] || exit 0
# Before a removal the timer stops first, or it could start a run that loses its program. It is disabled
# as well, so another installation has no timer to start; an upgrade leaves it alone.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now o365-wodle.timer > /dev/null 2>&1 || true
fi
# A run in progress ends in order before its program is replaced or removed: it stops sending,
# commits, and leaves within seconds. What it had not done, the next run does. A run that begins
# meanwhile is told as well, each of them once.
tries=0
told=' '
while [ "$tries" -lt 40 ]; do
    found=
    for process in /proc/[0-9]*; do
        if [ "$process/exe" -ef /usr/bin/o365-wodle ]; then
            found=yes
            case $told in
                *" $process "*) ;;
                *)
                    told="$told$process "
                    kill -TERM "${process#/proc/}" 2> /dev/null || true
                    ;;
            esac
        fi
    done
    [ -n "$found" ] || break
    tries=$((tries + 1))
    sleep 0.25
done
exit 0
