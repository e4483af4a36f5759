#!/usr/bin/env bash
# Builds the packages of this commit into target/packages/: .deb, .rpm, tarball, SHA256SUMS.
#
#   packaging/build.sh              everything, on a Debian machine with Rust; installs the tools it needs
#   packaging/build.sh --no-build   packs the binary of the last build again
#
# Environment:
#   TARGET      Rust's target triple (x86_64-unknown-linux-gnu). Never built for another one so far: aarch64 needs
#               Rust's standard library for it (rustup target add) and, for the man pages, RUNNER
#   RUNNER      starts a program of TARGET on this machine, for instance qemu-aarch64
#   GLIBC       the oldest glibc that the binary starts on (2.17)
#   MAINTAINER  who answers for the .deb, as `Name <address>`: who distributes it should say so
#   TOOLS       where the pinned tools live (~/.cache/o365-wodle-packaging)
#   SIGN_KEY    a key of your gpg: signs the .rpm and SHA256SUMS (SHA256SUMS.asc), which covers the rest. No key is in
#               the repository. The signed files differ between two builds, the unsigned ones do not
#
# Two builds of one commit are byte-identical wherever they run: times are the commit's, paths are mapped away.
set -euo pipefail
export LC_ALL=C.UTF-8 TZ=UTC
umask 022
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

TARGET=${TARGET:-x86_64-unknown-linux-gnu}
GLIBC=${GLIBC:-2.17}
TOOLS=${TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/o365-wodle-packaging}
readonly ZIG=0.17.1 ZIGBUILD=0.24.0
readonly CRATES=(cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9 cargo-deb@3.8.0 cargo-generate-rpm@0.21.1)
readonly stage=target/staging out=target/packages
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export PATH="$TOOLS/cargo/bin:$TOOLS/python/bin:$cargo_home/bin:$PATH"
export CARGO_TARGET_DIR=$root/target
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

# What is signed, or built from a version's tag, is a release.
if [[ -n ${SIGN_KEY:-} ]] || git describe --exact-match --match 'v*' HEAD > /dev/null 2>&1; then
    version=$(sed -nE '/^\[workspace.package\]/,/^\[/s/^version = "([^"]+)"/\1/p' Cargo.toml)
    grep -m 1 '^## \[' CHANGELOG.md | grep -qF "## [$version]" || fail "CHANGELOG.md does not begin with $version: write its entry"
fi

install_tools() {
    command -v cargo > /dev/null || fail 'there is no cargo: install Rust, see rust-version in Cargo.toml'
    local missing=()
    command -v cc > /dev/null || missing+=(build-essential)
    command -v objdump > /dev/null || missing+=(binutils)
    command -v git > /dev/null || missing+=(git)
    python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
    if [[ ${#missing[@]} -gt 0 ]]; then
        [[ $EUID -eq 0 ]] || fail "install ${missing[*]}, or run as root"
        apt-get -qq update
        apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
    fi
    [[ -x $TOOLS/python/bin/pip ]] || python3 -m venv "$TOOLS/python"
    "$TOOLS/python/bin/pip" install --quiet "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD"
    # Built for a short build, not for a fast tool.
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    local have crate
    have=$(cargo install --list --root "$TOOLS/cargo")
    for crate in "${CRATES[@]}"; do
        grep -qxF "${crate/@/ v}:" <<< "$have" ||
            env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$TOOLS/cargo" "$crate"
    done
    unset CARGO_PROFILE_RELEASE_LTO CARGO_PROFILE_RELEASE_CODEGEN_UNITS CARGO_PROFILE_RELEASE_OPT_LEVEL
}

compile() {
    # Rust's flags are parted by 0x1f, since a folder's name may hold blanks.
    local maps=("--remap-path-prefix=$root=." "--remap-path-prefix=$cargo_home=cargo") map="-ffile-prefix-map=$root=. -ffile-prefix-map=$cargo_home=cargo"
    CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "${maps[@]}" | sed 's/\x1f$//')
    export CARGO_ENCODED_RUSTFLAGS CFLAGS="$map" CXXFLAGS="$map"
    cargo auditable zigbuild --locked --release --bin o365-wodle --target "$TARGET.$GLIBC"
}

# What the binary promises: starts on an old glibc, needs nothing but it, and does not tell where it was built.
inspect() {
    local newest needed
    newest=$(objdump -T "$binary" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
    [[ $(printf '%s\n' "GLIBC_$GLIBC" "$newest" | sort -V | tail -n 1) == "GLIBC_$GLIBC" ]] ||
        fail "the binary needs $newest, which is newer than $GLIBC"
    needed=$(objdump -p "$binary" | awk '/NEEDED/ { print $2 }' | grep -vE '^(lib(c|m|dl|pthread|rt)\.so|ld-linux)' || true)
    [[ -z $needed ]] || fail "the binary needs $needed"
    for path in "$root" "$cargo_home"; do
        ! grep -qaF "$path/" "$binary" || fail "the binary names the folder $path"
    done
    echo "binary: $(stat -c %s "$binary") bytes, $newest"
}

# Man pages, completions, bill of materials, changelogs.
stage() {
    rm -rf "$stage"
    mkdir -p "$stage/man"
    ${RUNNER:-} "$binary" man "$stage/man"
    gzip -9n "$stage"/man/*.1
    ${RUNNER:-} "$binary" completions bash > "$stage/o365-wodle.bash"
    ${RUNNER:-} "$binary" completions zsh > "$stage/_o365-wodle"
    ${RUNNER:-} "$binary" completions fish > "$stage/o365-wodle.fish"
    gzip -9nc CHANGELOG.md > "$stage/changelog.gz"
    cat > "$stage/changelog.Debian" << ENTRY
o365-wodle ($version-1) stable; urgency=medium

  * Version $version: changelog.gz says what is new.

 -- $maintainer  $(date -R -d "@$SOURCE_DATE_EPOCH")
ENTRY
    cargo cyclonedx --quiet --format json --target "$TARGET" --override-filename o365-wodle.cdx
    sed "s|path+file://$root|path+file:///o365-wodle|g" o365-wodle.cdx.json > "$stage/o365-wodle.cdx.json"
    find . -name o365-wodle.cdx.json -not -path './target/*' -delete
}

pack() {
    rm -rf "$out"
    mkdir -p "$out"
    cargo deb --quiet --locked --no-build --no-strip --maintainer "$maintainer" --target "$TARGET" --output "$stage/o365-wodle.deb" > /dev/null
    # cargo-deb leaves out the sums that `dpkg -V` needs. (Sums of conffiles are dpkg's own matter.)
    dpkg-deb --raw-extract "$stage/o365-wodle.deb" "$stage/deb"
    (cd "$stage/deb" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$stage/deb" "$out/o365-wodle_${version}_$deb_arch.deb" > /dev/null
    # An rpm keeps the times of its files; those of a checkout that is older than the commit would be its own.
    touch -d "@$SOURCE_DATE_EPOCH" README.md SECURITY.md CHANGELOG.md LICENSE docs/* integration/* packaging/config.toml packaging/logrotate packaging/systemd/*
    cargo generate-rpm --target "$TARGET" --payload-compress gzip --output "$out/o365-wodle-$version-1.$rpm_arch.rpm"

    local tree=$stage/o365-wodle-$version
    install -D -m 0755 "$binary" "$tree/bin/o365-wodle"
    install -D -m 0640 packaging/config.toml "$tree/etc/config.toml"
    install -D -m 0644 -t "$tree/systemd" packaging/systemd/*
    install -D -m 0644 -t "$tree/man" "$stage"/man/*
    install -D -m 0644 -t "$tree/completions" "$stage/o365-wodle.bash" "$stage/_o365-wodle" "$stage/o365-wodle.fish"
    install -D -m 0644 -t "$tree/integration" integration/*
    install -D -m 0644 -t "$tree/docs" docs/*.md
    install -D -m 0644 -t "$tree" README.md CHANGELOG.md SECURITY.md LICENSE "$stage/o365-wodle.cdx.json" packaging/logrotate
    tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "o365-wodle-$version" |
        gzip -9n > "$out/o365-wodle-$version-${TARGET%%-*}-linux.tar.gz"

    if [[ -n ${SIGN_KEY:-} ]]; then
        rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $SIGN_KEY" --addsign "$out"/*.rpm
    fi
    (cd "$out" && sha256sum ./*.deb ./*.rpm ./*.tar.gz | sed 's|\./||' > SHA256SUMS)
    if [[ -n ${SIGN_KEY:-} ]]; then
        gpg --batch --yes --local-user "$SIGN_KEY" --armor --detach-sign "$out/SHA256SUMS"
    fi
}

case $TARGET in
    x86_64-*) deb_arch=amd64 rpm_arch=x86_64 ;;
    aarch64-*) deb_arch=arm64 rpm_arch=aarch64 ;;
    *) fail "TARGET=$TARGET: say here how Debian and RPM call its architecture" ;;
esac
binary=target/$TARGET/release/o365-wodle
version=$(sed -nE '/^\[workspace\.package\]/,/^\[/s/^version = "(.*)"/\1/p' Cargo.toml)
maintainer=${MAINTAINER:-$(sed -nE '/^\[package\.metadata\.deb\]/,/^\[/s/^maintainer = "(.*)"/\1/p' Cargo.toml)}

install_tools
[[ ${1:-} == --no-build ]] || compile
inspect
stage
pack
echo "packages after ${SECONDS} s:"
ls -l "$out"
