"""How deepfinder_golden.npz was made: output and loss of cryoet-deepfinder 0.2.1's own network, weights drawn by seed.

pip install --no-deps --target peer cryoet-deepfinder==0.2.1
PYTHONPATH=peer python tests/data/make_deepfinder_golden.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from deepfinder.losses import tversky_loss
from deepfinder.models import my_model

CLASSES, EDGE = 3, 12
network = my_model(EDGE, CLASSES)
generator = np.random.default_rng(20)
network.set_weights([generator.normal(0, 0.07, weight.shape) for weight in network.get_weights()])
grey = generator.standard_normal((2, EDGE, EDGE, EDGE, 1)).astype(np.float32)
labels = generator.integers(0, CLASSES, (2, EDGE, EDGE, EDGE))
probability = network.predict(grey, verbose=0)
truth = tf.one_hot(labels, CLASSES)
np.savez_compressed(
    Path(__file__).with_name("deepfinder_golden.npz"),
    probability=probability,
    loss=np.float64(tversky_loss(truth, tf.constant(probability))),
    shapes=np.array([str(weight.shape) for weight in network.get_weights()]),
)
