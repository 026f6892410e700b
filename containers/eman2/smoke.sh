cd "$(mktemp -d)"
command -v e2pdb2mrc.py >/dev/null
python3 - <<'PYTHON'
import numpy as np
from template_learning.structures import density, eman2
assert eman2.program()["program_version"] != "unknown"
position, element = np.array([[0, 0, 0], [20, 5, -9]], float), np.array([6, 8], np.uint8)
theirs, ours = (engine(position, element, 8.0, 20.0) for engine in (eman2.density_by_eman2, density.density_of_atoms))
assert np.abs(theirs / theirs.max() - ours / ours.max()).max() < 1e-3
PYTHON
