"""Tomograms from tilt series."""
