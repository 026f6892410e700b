#!/usr/bin/env bash
# The Python environment .venv, exactly as locked in python/requirements.lock, with this package in editable mode.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/locked.sha256
sum=$(cat python/requirements.lock python/pyproject.toml setup/uv.lock | sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0

uv=.tools/uv/bin/uv
if [ ! -x "$uv" ] || ! "$uv" --version | grep -qF "$(sed -nE 's/^uv==([0-9.]+).*/\1/p' setup/uv.lock)"; then
    echo "installing uv"
    "${PYTHON:-python3}" -m venv --clear .tools/uv
    .tools/uv/bin/pip install -q --disable-pip-version-check --require-hashes -r setup/uv.lock
fi
echo "installing the locked Python packages into .venv"
[ -x .venv/bin/python ] || "$uv" venv -q --python "${PYTHON:-python3}" .venv
export VIRTUAL_ENV="$PWD/.venv"
# Compiled now, once: a task that has to do it itself, where it may not write here, needs 14 s to import TensorFlow's modules
"$uv" pip sync -q --compile-bytecode --require-hashes python/requirements.lock
"$uv" pip install -q --no-deps -e python
echo "$sum" >"$stamp"
