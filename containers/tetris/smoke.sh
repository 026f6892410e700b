template-learning tetris --help >/dev/null
cd /tmp
python3 - <<'PYTHON'
import importlib.util
import template_learning.stages.tetris
assert importlib.util.find_spec("prody") is None, "ProDy was not expected here"
PYTHON
