#!/usr/bin/env bash
# Nextflow: the one on PATH if it is 25.04 or later, else 25.04.4 from Maven artifacts under .tools/.
#   nextflow.sh --have      is there one already? (exit status)
#   nextflow.sh --install   fetch the jars if there is none
#   nextflow.sh ARGS...     run it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home="$here/../.tools/nextflow-25.04.4"

on_path() {
    command -v nextflow >/dev/null || return 1
    local found
    found=$(nextflow -version 2>/dev/null | sed -nE 's/.*version ([0-9]+\.[0-9]+).*/\1/p' | head -1)
    [ -n "$found" ] && [ "$(printf '25.04\n%s\n' "$found" | sort -V | head -1)" = 25.04 ]
}

# Java reads paths in the locale's letters: with LANG=C none beyond ASCII.
if [ "$(locale charmap 2>/dev/null)" != UTF-8 ]; then
    LC_ALL=$(locale -a 2>/dev/null | grep -iEm1 '^(C|en_US)\.utf-?8$' || echo C.UTF-8)
    export LC_ALL
fi

case "${1:-}" in
--have) on_path || [ -f "$home/complete" ] ;;
--install)
    if on_path || [ -f "$home/complete" ]; then exit 0; fi
    echo "fetching Nextflow 25.04.4 from Maven artifacts"
    mkdir -p "$home"
    mvn -q -B -C -f "$here/nextflow.pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/jars"
    touch "$home/complete"
    ;;
*)
    if on_path; then exec nextflow "$@"; fi
    [ -f "$home/complete" ] || { echo "error: no Nextflow; run 'make setup' first" >&2; exit 2; }
    opens=()
    for package in java.lang java.io java.nio java.nio.file.spi java.net java.util java.util.concurrent.locks \
        java.util.concurrent.atomic java.util.regex sun.nio.ch sun.nio.fs sun.net.www.protocol.http \
        sun.net.www.protocol.https sun.net.www.protocol.ftp sun.net.www.protocol.file jdk.internal.misc jdk.internal.vm; do
        opens+=("--add-opens=java.base/$package=ALL-UNNAMED")
    done
    export NXF_HOME="${NXF_HOME:-$home/home}" NXF_OFFLINE=true NXF_DISABLE_CHECK_LATEST=true NXF_PLUGINS_MODE=prod NXF_PLUGINS_DEFAULT=false
    exec java "${opens[@]}" -Dfile.encoding=UTF-8 -XX:+TieredCompilation -XX:TieredStopAtLevel=1 -cp "$home/jars/*" nextflow.cli.Launcher "$@"
    ;;
esac
