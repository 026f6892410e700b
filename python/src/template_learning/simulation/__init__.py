"""Tilt series from placed molecules: the physics, the native engine, and the door to Parakeet."""
