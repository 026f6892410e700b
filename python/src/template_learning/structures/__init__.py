"""Molecules: structures and maps read, cleaned, turned into atoms and densities; the library."""
