"""The network, its training and its use on tomograms."""
