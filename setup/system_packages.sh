#!/usr/bin/env bash
# Java 17+, Maven and Python's venv: installs what is missing as root on Debian and Ubuntu, else says how to.
# Nextflow of one's own (25.04 or later) makes Maven unnecessary.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

missing=()
python=${PYTHON:-python3}
command -v "$python" >/dev/null || missing+=(python3)
if command -v "$python" >/dev/null; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: $python is older than 3.11; set PYTHON=<a newer one> and try again" >&2
        exit 2
    }
    # A venv without ensurepip is Debian's way of saying that python3-venv is not installed.
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
fi
if ! "$here/nextflow.sh" --have; then
    java -version 2>&1 | grep -Eq '"(1[7-9]|2[0-9])' || missing+=(openjdk-17-jre-headless)
    command -v mvn >/dev/null || missing+=(maven)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "error: missing ${missing[*]}; run: sudo apt-get install ${missing[*]}" >&2
    exit 2
fi
