"""The published cryoet-deepfinder: its weights, and its program in its own container."""
