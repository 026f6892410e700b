"""Times of cryoet-deepfinder's own training steps and segmentation; run by learning.py as a program of its own.

    python peer_deepfinder.py <folder of the package> <folder with tomogram.h5, target.h5> <JSON of what to measure>

Prints one line of JSON.  The package asks for an optimizer that Keras 3 has dropped; it gets today's instead, with the
same numbers.
"""

import json
import os
import sys
import time
import types
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
package, data, wanted = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
sys.path.insert(0, package)

import h5py  # noqa: E402
import keras  # noqa: E402

legacy = types.ModuleType("tensorflow.keras.optimizers.legacy")
legacy.Adam = lambda lr, beta_1, beta_2, epsilon, decay: keras.optimizers.Adam(lr, beta_1, beta_2, epsilon)  # type: ignore[attr-defined]
sys.modules["tensorflow.keras.optimizers.legacy"] = legacy

from deepfinder.inference import Segment  # noqa: E402
from deepfinder.training import Train  # noqa: E402

result: dict[str, float] = {}
paths = [str(data / "tomogram.h5")], [str(data / "target.h5")]
training = Train(Ncl=wanted["classes"], dim_in=wanted["patch"])
training.net.compile(optimizer=training.optimizer, loss=training.loss, metrics=["accuracy"])


def steps(count: int) -> float:
    """Seconds for so many steps as ``Train.launch`` makes them."""
    begun = time.perf_counter()
    for _ in range(count):
        batch = training.generate_batch_direct_read(*paths, wanted["batch"], wanted["objects"])
        training.net.train_on_batch(*batch)
    return time.perf_counter() - begun


steps(1)
result["train_seconds"] = steps(wanted["steps"]) / wanted["steps"]
training.net.save(str(data / "weights.h5"))
segment = Segment(Ncl=wanted["classes"], path_weights=str(data / "weights.h5"), patch_size=wanted["segment_patch"])
segment.display = lambda message: None
with h5py.File(data / "large.h5") as file:
    volume = file["dataset"][:]
begun = time.perf_counter()
segment.launch(volume)
result["segment_seconds"] = time.perf_counter() - begun
print(json.dumps(result))
