#!/usr/bin/env bash
# JAX in .tools/jax, for tests of training on another backend than TensorFlow; what it needs besides is in .venv.  Not in .venv
# itself: that would be 380 MB more for everyone, and TensorFlow loads JAX wherever it finds it.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.tools/jax/locked.sha256
sum=$(sha256sum <setup/jax.lock | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0
echo "installing JAX into .tools/jax"
rm -rf .tools/jax
.tools/uv/bin/uv pip install -q --python .venv/bin/python --target .tools/jax --no-deps --require-hashes -r setup/jax.lock
echo "$sum" >"$stamp"
