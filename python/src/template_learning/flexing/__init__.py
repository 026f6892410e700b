"""Conformers of a molecule by normal-mode analysis."""
