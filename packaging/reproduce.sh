#!/usr/bin/env bash
# Builds this commit once more in another folder and holds the result against target/packages.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
[[ -z $(git status --porcelain) ]] || { echo 'reproduce.sh: commit first, a clone has only what is committed' >&2; exit 1; }
other=$(mktemp -d)/elsewhere
trap 'rm -rf "${other%/*}"' EXIT
git clone --quiet "$root" "$other"
"$other/packaging/build.sh"
diff target/packages/SHA256SUMS "$other/target/packages/SHA256SUMS"
echo 'both builds are byte-identical'
