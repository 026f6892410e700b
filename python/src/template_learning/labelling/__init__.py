"""Truth of simulated tomograms on their voxels."""
