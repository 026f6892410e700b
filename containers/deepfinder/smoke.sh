cd "$(mktemp -d)"
template-learning train --help >/dev/null
python3 - <<'PYTHON'
import json, subprocess, sys
from importlib.metadata import version
import numpy as np
from template_learning.deepfinder import program as deepfinder_program
assert version("cryoet-deepfinder") == "0.2.1"
labels = np.zeros((24, 24, 24), np.uint8)
labels[4:9, 4:9, 4:9] = 1
classes, centres = deepfinder_program.cluster_centres(labels, 5.0)
assert list(classes) == [1] and abs(centres[0] - 6).max() < 0.5, (classes, centres)
PYTHON
