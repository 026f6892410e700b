#!/usr/bin/env bash
# buildah, skopeo, mmdebstrap and Apptainer 1.3 or later: installs what is missing as root on Debian, else says how to.
#   container_tools.sh            what building images needs
#   container_tools.sh registry   Debian's docker-registry too, which the tests push to
set -euo pipefail

missing=()
for one in buildah skopeo mmdebstrap newuidmap:uidmap unshare:util-linux openssl; do
    command -v "${one%:*}" >/dev/null || missing+=("${one#*:}")
done
if [ "${1:-}" = registry ]; then command -v docker-registry >/dev/null || missing+=(docker-registry); fi
apptainer=()
command -v apptainer >/dev/null || apptainer=(apptainer squashfuse fuse2fs uidmap)
[ ${#missing[@]} -eq 0 ] && [ ${#apptainer[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || ! grep -q '^ID=debian' /etc/os-release; then
    [ ${#missing[@]} -eq 0 ] || echo "error: missing ${missing[*]}; on Debian and Ubuntu: sudo apt-get install ${missing[*]}" >&2
    [ ${#apptainer[@]} -eq 0 ] || echo "error: missing apptainer; its own pages say how to install it: https://apptainer.org/docs/admin/latest/installation.html" >&2
    exit 2
fi

export DEBIAN_FRONTEND=noninteractive
echo "installing container tools: ${missing[*]} ${apptainer[*]}"
apt-get update -qq
[ ${#missing[@]} -eq 0 ] || apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
[ ${#apptainer[@]} -gt 0 ] || exit 0

# Debian has Apptainer in its unstable suite alone: that suite of the machine's own mirror, behind all others.
suite=()
if [ -z "$(apt-cache madison apptainer)" ]; then
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -1)
    [ -n "$site" ] || { echo "error: apt knows no Debian mirror to take Apptainer from" >&2; exit 2; }
    printf 'Package: *\nPin: release n=sid\nPin-Priority: 50\n' >/etc/apt/preferences.d/template-learning-sid
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site sid main" >/etc/apt/sources.list.d/template-learning-sid.list
    apt-get update -qq
    suite=(-t sid)
fi
apt-get install -y -qq --no-install-recommends "${suite[@]}" "${apptainer[@]}" >/dev/null
