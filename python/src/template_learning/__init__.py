"""Template Learning: find a molecule in cryo-electron tomograms with a network trained on simulated tomograms alone."""

from importlib.metadata import version

__version__ = version("template-learning")
