"""The network, its training and its use on tomograms.

Keras runs on TensorFlow unless ``KERAS_BACKEND`` says otherwise (jax, torch).
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN out on processors without AVX-512, where it trains two to four times faster too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
