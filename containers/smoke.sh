# Run inside a finished image, before the image's own smoke.sh, as a uid that the image does not know and without a network.
set -euo pipefail
fail() { echo "smoke test: $*" >&2; exit 1; }
[ "$(id -u)" != 0 ] || fail "root was not expected"
for folder in / /usr /opt/template-learning; do
    if touch "$folder/.written" 2>/dev/null; then fail "$folder can be written"; fi
done
if touch "$HOME/.written" 2>/dev/null; then fail "HOME ($HOME) can be written"; fi
[ "$(tail -n +3 /proc/net/dev | grep -cv ' lo:')" = 0 ] || fail "there is a network"
for program in bash ps awk date grep sed tail tee; do   # Nextflow's wrapper calls them
    command -v "$program" >/dev/null || fail "no $program"
done
[ "$(python3 -c "import template_learning; print(template_learning.__version__)")" = "$VERSION" ] || fail "the package is not of version $VERSION"
template-learning --help >/dev/null
