"""Picks from segmentations, and their scores against annotations."""
