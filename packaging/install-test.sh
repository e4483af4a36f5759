#!/usr/bin/env bash
# Lives through the packages' life: install, onboard a tenant and collect, upgrade while a run is at work, downgrade,
# remove, purge; in fresh roots of Debian 11 and 12 and, with the .rpm, in a root with a package database of RPM's.
#
#   packaging/install-test.sh [lint] [bullseye] [bookworm] [rpm]     (default: all; as root, on Debian, after build.sh)
#
# Environment:
#   PREVIOUS  a folder with the packages of the last release. Without it the new binary is packed once more, with a
#             lower version and another config.toml
#   ROOTS     where fresh roots are kept for the next time (~/.cache/o365-wodle-roots)
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$top"
ROOTS=${ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/o365-wodle-roots}
new=$top/target/packages
readonly CLEAN='verdict: .* 0 missing, 0 repeated(, [0-9]+ reshaped)?$'
steps=0

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# ok WHAT COMMAND…: one checked fact.
ok() {
    local what=$1
    shift
    "$@" > "$work/output" 2>&1 || { cat "$work/output" >&2; fail "$what"; }
    steps=$((steps + 1))
    echo "  ok  $what"
}

# exits CODE COMMAND…: CODE may be a pattern
exits() {
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    # shellcheck disable=SC2053 # a pattern, such as [03]
    [[ $code == $wanted ]] || { echo "exit code $code instead of $wanted"; return 1; }
}

is() { [[ "$1" == "$2" ]] || { printf 'is:     %s\nwanted: %s\n' "$1" "$2"; return 1; }; }
says() {
    local text=$1 said code=0
    shift
    said=$("$@" 2>&1) || code=$?
    echo "$said"
    [[ $code == 0 ]] && grep -qE -e "$text" <<< "$said"
}
absent() { [[ ! -e $1 && ! -L $1 ]]; }
inside() { nsenter --target "$stand_PID" --net chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

prepare() {
    [[ $EUID -eq 0 ]] || fail 'roots are made by root'
    ls "$new"/*.deb "$new"/*.rpm > /dev/null || fail 'there are no packages: run packaging/build.sh'
    local missing=() tool
    for tool in debootstrap lintian rpm rpmlint man:man-db systemd-analyze:systemd sqlite3 ip:iproute2; do
        command -v "${tool%:*}" > /dev/null || missing+=("${tool#*:}")
    done
    if [[ ${#missing[@]} -gt 0 ]]; then
        apt-get -qq update
        apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
    fi
    cargo build --quiet --locked --package simulator --example stand
}

# The release before this one.
previous() {
    [[ -z ${old:-} ]] || return 0
    if [[ -n ${PREVIOUS:-} ]]; then
        old=$PREVIOUS
        return
    fi
    local tree=$work/previous target=${TARGET:-x86_64-unknown-linux-gnu}
    mkdir "$tree"
    git ls-files -z | tar --null --files-from=- -cf - | tar -C "$tree" -xf -
    install -D "target/$target/release/o365-wodle" "$tree/target/$target/release/o365-wodle"
    sed -i '/^\[workspace.package\]/,/^\[/s/^version = .*/version = "0.0.1"/' "$tree/Cargo.toml"
    echo '# As it was in 0.0.1.' >> "$tree/packaging/config.toml"
    (cd "$tree" && cargo update --quiet --offline --workspace)
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$tree/packaging/build.sh" --no-build > "$work/output" 2>&1 ||
        { cat "$work/output"; fail 'the previous version cannot be packed'; }
    old=$tree/target/packages
}

lint() {
    echo '== lint'
    ok 'lintian' lintian --fail-on error,warning --display-info --tag-display-limit 0 "$new"/*.deb
    ok 'rpmlint' rpmlint --strict --config packaging/rpm/rpmlint.toml "$new"/*.rpm
    local tree=$work/lint
    dpkg-deb -x "$new"/*.deb "$tree"
    local units
    units=$(dirname "$(find "$tree" -name o365-wodle.service)")
    sed -i "s|^ExecStart=|&$tree|" "$units/o365-wodle.service"
    ok 'systemd-analyze verify' is "$(systemd-analyze --man=no verify "$units"/o365-wodle.service "$units"/o365-wodle.timer 2>&1)" ''
    ok 'exposure at most 2.5' systemd-analyze security --offline=true --threshold=25 "$units"/o365-wodle.service
    grep -oE 'Overall exposure.*[0-9.]+' "$work/output" || true
    local page
    for page in "$tree"/usr/share/man/man1/*; do
        ok "man page $(basename "$page")" is "$(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 > /dev/null)" ''
    done
}

# A fresh copy of a Debian root, made with the mirror that this machine itself uses.
fresh() {
    local suite=$1 mirror
    if [[ ! -f $ROOTS/$suite.tar ]]; then
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
        mkdir -p "$ROOTS"
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/$suite" "$mirror" > "$work/output" 2>&1 ||
            { tail "$work/output"; fail "debootstrap $suite"; }
        tar -C "$work/$suite" -cf "$ROOTS/$suite.tar.new" .
        mv "$ROOTS/$suite.tar.new" "$ROOTS/$suite.tar"
        rm -rf "${work:?}/$suite"
    fi
    # A short path: the queue's socket lies below it.
    root=$work/$2
    mkdir "$root"
    tar -C "$root" -xf "$ROOTS/$suite.tar"
    mount -t proc proc "$root/proc"
    mkdir "$root/packages"
}

cleanup() {
    [[ -z ${stand_PID:-} ]] || kill "$stand_PID" 2> /dev/null || true
    local mounted
    while read -r mounted; do
        umount "$mounted"
    done < <(awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/mounts)
    rm -rf "$work"
}

# What differs between the two formats.
install_deb() { cp "$1"/*.deb "$root/packages/new.deb"; inside dpkg -i --force-confdef --force-confold /packages/new.deb < /dev/null; }
install_rpm() { rpm --root "$root" -U --nodeps --oldpackage "$1"/*.rpm; }
verify_deb() { is "$(inside dpkg -V o365-wodle 2>&1)" ''; }
verify_rpm() { is "$(rpm --root "$root" -V --nodeps o365-wodle 2>&1)" ''; }
remove_deb() { inside dpkg -r o365-wodle; }
remove_rpm() { rpm --root "$root" -e o365-wodle; }
version_deb() { dpkg-deb -f "$1"/*.deb Version; }
version_rpm() { rpm -qp --qf '%{VERSION}-%{RELEASE}' "$1"/*.rpm 2> /dev/null; }
installed_deb() { inside dpkg-query -W -f '${Version}' o365-wodle; }
installed_rpm() { rpm --root "$root" -q --qf '%{VERSION}-%{RELEASE}' o365-wodle; }

# shipped FOLDER: the config.toml of a package.
shipped() {
    if [[ $format == deb ]]; then dpkg-deb --fsys-tarfile "$1"/*.deb | tar -xO ./etc/o365-wodle/config.toml
    else rpm2cpio "$1"/*.rpm | cpio -i --quiet --to-stdout ./etc/o365-wodle/config.toml; fi
}

stand() { echo "$*" >&"${stand[1]}"; local answer; read -r answer <&"${stand[0]}"; echo "$answer"; }

wazuh() { (cd "$root/var/ossec" && find . -type f -name '*.conf*' -exec sha256sum {} +); }

modes() {
    inside stat -c '%a %U:%G %n' /etc/o365-wodle /etc/o365-wodle/config.toml /etc/o365-wodle/tenants.d \
        /etc/o365-wodle/secrets /var/lib/o365-wodle /var/log/o365-wodle
}

# The three commands that the package prints, in a network where Microsoft's names lead to the stand.
onboard() {
    ok 'tenant add' exits 0 inside o365-wodle tenant add contoso --from /var/ossec/handover.txt
    ok 'the secret is its owner'\''s alone' is "$(stat -c %a "$root/etc/o365-wodle/secrets/contoso")" 600
}

# Starts a run that Wazuh keeps waiting, then does what replaces the program.
in_progress() {
    local lock=$root/var/lib/o365-wodle/ledger.db.lock code=0
    stand pause > /dev/null
    stand issue 3000 > /dev/null
    inside o365-wodle run > "$work/run" 2>&1 &
    local run=$!
    # Only looked at: taking the lock to see whether it is free would keep the run out.
    until grep -qsE "FLOCK .*:$(stat -c %i "$lock") " /proc/locks; do
        kill -0 "$run" 2> /dev/null || { cat "$work/run"; fail 'the run ended before the upgrade'; }
        sleep 0.05
    done
    ok "$1" "${@:2}"
    wait "$run" || code=$?
    ok "the run ended in order (exit code $code)" test "$code" -lt 100
    stand resume > /dev/null
}

# A systemd that starts nothing: it knows whether the timer is enabled, and notes what it is asked.
systemd() {
    local wanted=etc/systemd/system/timers.target.wants
    mkdir -p "$root/run/systemd/system" "$root/$wanted"
    ln -s /lib/systemd/system/o365-wodle.timer "$root/$wanted/"
    cat > "$root/usr/bin/systemctl" << 'SYSTEMCTL'
#!/bin/sh
echo "$*" >> /run/asked
units=/etc/systemd/system
case " $* " in
    *' is-enabled '*)
        [ "$(readlink "$units/o365-wodle.timer")" != /dev/null ] || exit 1
        [ -L "$units/timers.target.wants/o365-wodle.timer" ] || exit 1
        echo enabled
        ;;
    *' is-active '*) exit 3 ;;
    *' disable '*) rm -f "$units/timers.target.wants/o365-wodle.timer" ;;
esac
SYSTEMCTL
    chmod 755 "$root/usr/bin/systemctl"
}
# What systemd was asked to start and stop, since the last time.
asked() {
    grep -E '(^| )(start|restart|stop|disable) ' "$root/run/asked" || true
    : > "$root/run/asked"
}

collects() {
    stand issue "$1" > /dev/null
    ok 'run' exits 0 inside o365-wodle -v run
    ok 'each record arrived once' says "$CLEAN" stand verdict
}

life() {
    format=$1
    local suite=$2 etc home group untouched
    echo "== $format on $suite"
    previous
    fresh "$suite" r
    etc=$root/etc/o365-wodle
    home=$root/var/ossec
    [[ $format == deb ]] || rpm --root "$root" --initdb
    mkdir -p "$home/etc"
    echo '<ossec_config></ossec_config>' > "$home/etc/ossec.conf"
    untouched=$(wazuh)
    coproc stand { exec unshare --net sh -c 'ip link set lo up && exec "$0" "$1"' "$top/target/debug/examples/stand" "$home"; }
    echo '127.0.0.1 localhost login.microsoftonline.com manage.office.com' > "$root/etc/hosts"
    cp "$(stand ca)" "$root/usr/local/share/ca-certificates/simulator.crt"
    inside update-ca-certificates > "$work/output" 2>&1 || { cat "$work/output"; fail 'the simulated authority is not trusted'; }

    for group in root wazuh; do
        [[ $group == root ]] || ok 'group wazuh' inside groupadd --system wazuh
        ok "install, log folder for $group" "install_$format" "$old"
        ok 'it prints three commands and nothing else' \
            is "$(grep -vE '^(Selecting|\(Reading|Preparing|Unpacking|Setting up|warning:|rpm:)' "$work/output" | sed 's/ .*//' | tr '\n' ' ')" \
            'o365-wodle o365-wodle o365-wodle '
        ok 'owners and modes' is "$(modes)" "$(printf '%s\n' '750 root:root /etc/o365-wodle' '640 root:root /etc/o365-wodle/config.toml' \
            '750 root:root /etc/o365-wodle/tenants.d' '750 root:root /etc/o365-wodle/secrets' '750 root:root /var/lib/o365-wodle' \
            "750 root:$group /var/log/o365-wodle")"
        if [[ $group == root ]]; then
            ok 'remove' "remove_$format"
            [[ $format == rpm ]] || ok 'purge' inside dpkg -P o365-wodle
            ok 'nothing is left' left ''
        fi
    done
    ok 'verify' "verify_$format"
    ok 'there is a man page' test -s "$root/usr/share/man/man1/o365-wodle.1.gz"
    ok 'the fresh configuration passes check' exits 0 inside o365-wodle check
    ok 'a run without tenants says so' says 'no tenants yet' exits 0 inside o365-wodle -v run
    ok 'group wazuh may read the log' is "$(inside stat -c '%a %U:%G' /var/log/o365-wodle/o365-wodle.log)" '640 root:wazuh'
    ok 'a quiet run prints nothing' is "$(inside o365-wodle run 2>&1)" ''

    inside chgrp root /var/log/o365-wodle
    ok 'upgrade' "install_$format" "$new"
    ok 'a Wazuh that came later may read the log' is "$(inside stat -c %U:%G /var/log/o365-wodle)" root:wazuh
    ok 'verify' "verify_$format"
    ok 'an untouched configuration is the new one' is "$(cat "$etc/config.toml")" "$(shipped "$new")"
    ok 'downgrade' "install_$format" "$old"
    onboard
    sed -i 's/^#events_per_second = .*/events_per_second = 0/' "$etc/config.toml"
    cp "$etc/config.toml" "$work/edited.toml"
    collects 400

    systemd
    in_progress 'upgrade while a run is at work' "install_$format" "$new"
    ok 'the timer is left alone' is "$(asked)" ''
    ok 'the new version is there' is "$("installed_$format")" "$("version_$format" "$new")"
    ok 'the edited configuration stays' cmp "$etc/config.toml" "$work/edited.toml"
    ok 'the shipped one lies beside it' is "$(cat "$etc/config.toml".*)" "$(shipped "$new")"
    ok 'owners and modes stay' is "$(modes | head -n 2)" "$(printf '750 root:root /etc/o365-wodle\n640 root:root /etc/o365-wodle/config.toml')"
    collects 200
    ledgers

    inside chgrp adm /var/log/o365-wodle
    in_progress 'remove while a run is at work' "remove_$format"
    ok 'the timer stops first' says '(^| )(stop|disable --now) o365-wodle.timer$' head -n 1 <<< "$(asked)"
    ok 'ledger, tenant and secret stay' test -s "$root/var/lib/o365-wodle/ledger.db" -a -s "$etc/tenants.d/contoso.toml" -a -s "$etc/secrets/contoso"
    ok 'the program is gone' absent "$root/usr/bin/o365-wodle"
    ok 'install again' "install_$format" "$new"
    if [[ $format == deb ]]; then ok 'the timer, still enabled, starts again' says '(^| )start o365-wodle.timer$' asked
    else ok 'the timer is off' is "$(asked)" ''; fi
    ok 'the log'\''s folder is whose the operator says' is "$(inside stat -c %U:%G /var/log/o365-wodle)" root:adm
    [[ $format == deb ]] || cp "$work/edited.toml" "$etc/config.toml"
    collects 100
    ok 'nothing of Wazuh'\''s was touched' is "$(wazuh)" "$untouched"
    if inside o365-wodle setup --help | grep -q -e --write; then
        ok 'setup --write' exits 0 inside o365-wodle setup --write
        ok 'Wazuh has the block, once' is "$(grep -c '<command>/usr/bin/o365-wodle run</command>' "$home/etc/ossec.conf")" 1
    fi

    ok 'remove' "remove_$format"
    if [[ $format == deb ]]; then
        mount --bind "$root/var/lib/o365-wodle" "$root/var/lib/o365-wodle"
        ok 'purge, the ledger on a volume' inside dpkg -P o365-wodle
        umount "$root/var/lib/o365-wodle"
        ok 'the volume is empty' rmdir "$root/var/lib/o365-wodle"
        ok 'nothing is left' left ''
    else
        ok 'only what the operator and the runs made is left' left \
            './etc/o365-wodle ./var/lib/o365-wodle ./var/log/o365-wodle '
    fi
    kill "$stand_PID"
    wait "$stand_PID" 2> /dev/null || true
    umount "$root/proc"
    rm -rf "$root"
}

# What bears our name, but for what lies below another find and for the record of installations.
left() {
    is "$(cd "$root" && find . \( -path ./proc -o -path ./packages -o -path './var/cache' -o -path './var/ossec' \) -prune -o \
        -name '*o365*' -print -prune | sort | tr '\n' ' ')" "$1"
}

# Ledgers of each released schema open; one of a later version is refused.
ledgers() {
    local ledger=$root/var/lib/o365-wodle/ledger.db kept=$work/kept fixture
    mkdir "$kept"
    mv "$ledger"* "$kept"
    for fixture in "$top"/tests/fixtures/ledgers/*.sql; do
        (umask 077 && sqlite3 "$ledger" < "$fixture")
        ok "a ledger of $(basename "$fixture" .sql) opens" says '"delivered": 4711' exits '[03]' inside o365-wodle status --json
        sqlite3 "$ledger" 'PRAGMA user_version = 9999' > /dev/null
        ok 'a ledger of a later version is refused' says 'newer' exits 78 inside o365-wodle status
        ok '… and a run leaves it alone' exits 78 inside o365-wodle run
        ok '… as it is' is "$(sqlite3 "$ledger" 'PRAGMA user_version')" 9999
        rm "$ledger"*
    done
    mv "$kept"/* "$root/var/lib/o365-wodle"
    rmdir "$kept"
}

work=$(mktemp -d /tmp/o365.XXXX)
trap cleanup EXIT
prepare
[[ $# -gt 0 ]] || set -- lint bullseye bookworm rpm
for part; do
    case $part in
        lint) lint ;;
        bullseye | bookworm) life deb "$part" ;;
        rpm) life rpm bookworm ;;
        *) fail "there is no part $part" ;;
    esac
done
echo "$steps passed, 0 failed, after ${SECONDS} s"
