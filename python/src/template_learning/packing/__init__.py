"""Samples: molecules, membranes and filaments packed into a box."""
