cd "$(mktemp -d)"
test -s "$IMOD_DIR/VERSION"
for program in newstack tilt trimvol; do command -v "$program" >/dev/null; done
python3 - <<'PYTHON'
import numpy as np
from pathlib import Path
from template_learning.common.mrc import write_mrc
from template_learning.stages.reconstruct import reconstruct_series
from template_learning.settings import ReconstructSettings
write_mrc(Path("t.mrc"), np.ones((3, 32, 32), np.float32), 10.0, stack=True)
Path("t.tlt").write_text("-20\n0\n20\n")
asked = ReconstructSettings(engine="imod", voxel_size_angstrom=10.0, thickness_angstrom=80.0)
reconstruct_series(Path("t.mrc"), Path("t.tlt"), "t", asked, Path("out"))
PYTHON
