pytme --version >/dev/null
cd /tmp
python3 - <<'PYTHON'
import importlib.util
from pathlib import Path
import numpy as np
from template_learning.template_matching.search import TiltSeriesOptics, template_in_box
from template_learning.template_matching.pytme import search_by_pytme
from template_learning.settings import MatchCommandSettings
assert importlib.util.find_spec("tme") is None, "pytme was not expected in the package's own environment"
settings = MatchCommandSettings(angular_step_deg=90)
imaging = TiltSeriesOptics.of_settings(settings)
position = np.random.default_rng(1).uniform(-20, 20, (50, 3))
density, mask = template_in_box(position - position.mean(axis=0), np.full(50, 6, np.uint8), 8.0, imaging, settings)
half = len(density) // 2
tomogram = np.random.default_rng(2).normal(0, 1e-3 * density.max(), (32, 36, 40)).astype(np.float32)
tomogram[14 - half:15 + half, 16 - half:17 + half, 20 - half:21 + half] -= density
scores = search_by_pytme(tomogram, density, mask, 8.0, imaging, settings, invert=True).scores
best = [int(one) for one in np.unravel_index(scores.argmax(), scores.shape)]
assert best == [14, 16, 20], best
PYTHON
