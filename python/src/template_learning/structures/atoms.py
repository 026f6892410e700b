"""Atoms as the simulator needs them: where they are, what they are, which hydrogens ride on them, how much ice they displace."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEAVY_ATOM_ANGSTROM3 = 17.4
"""Ice that a heavy atom displaces where nothing more is known of it: that of an average protein's, its hydrogens counted."""


class Atoms(NamedTuple):
    """The N atoms of one molecule, in the molecule's own frame."""

    position_angstrom: NDArray[np.float32]
    """(N, 3) as (x, y, z)."""
    element: NDArray[np.uint8]
    """(N,) atomic numbers; 0 scatters nothing."""
    hydrogens: NDArray[np.float32]
    """(N,) hydrogens that scatter from where the atom is, not among the atoms."""
    displaced_angstrom3: NDArray[np.float32]
    """(N,) ice in Å^3 that the atom with its hydrogens pushes aside; less than 0 where ice is put back."""

    def bare(self) -> "Atoms":
        """These atoms by themselves, without the hydrogens that ride on them, as Parakeet has them."""
        return bare_atoms(self.position_angstrom, self.element)

    def kept(self, keep: NDArray[np.bool_]) -> "Atoms":
        """Those of the atoms that ``keep`` (N,) names."""
        return Atoms(self.position_angstrom[keep], self.element[keep], self.hydrogens[keep], self.displaced_angstrom3[keep])


def bare_atoms(position_angstrom: NDArray[np.floating], element: NDArray[np.uint8]) -> Atoms:
    """Atoms (N, 3) and (N,) of which nothing more is known: no hydrogens ride on them, all but hydrogens displace the same ice."""
    heavy = np.asarray(element) > 1
    return Atoms(
        np.asarray(position_angstrom, dtype=np.float32),
        np.asarray(element, dtype=np.uint8),
        np.zeros(len(heavy), dtype=np.float32),
        np.where(heavy, np.float32(HEAVY_ATOM_ANGSTROM3), np.float32(0)),
    )
