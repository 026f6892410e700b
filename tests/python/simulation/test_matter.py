"""Molecules and ice scatter as sums by hand from other tables say (bench/physics.py)."""

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from template_learning.simulation.nuisances import CARBON_VOLT, GOLD_VOLT
from template_learning.simulation.physics import VOLT_ANGSTROM2, mean_potential_volt, scattering_factor
from template_learning.simulation.scattering import SOLVENT_NOISE, physical_scattering
from template_learning.structures.atoms import Atoms

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The sums by hand."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("physics")


def mean_inner_potential(atoms: Atoms) -> float:
    """In volt, by the engine's factors and the volumes that the atoms displace."""
    factor = np.array([0.0, *(scattering_factor(z, np.zeros(1))[0] for z in range(1, 31))])
    total = factor[atoms.element].sum() + factor[1] * atoms.hydrogens.sum()
    return float(VOLT_ANGSTROM2 * total / atoms.displaced_angstrom3.sum())


def test_forward_scattering_is_that_of_other_fits(hand: ModuleType) -> None:
    for symbol, z in (("H", 1), ("C", 6), ("N", 7), ("O", 8), ("P", 15), ("S", 16)):
        ours = VOLT_ANGSTROM2 * scattering_factor(z, np.zeros(1))[0]
        assert hand.forward_volt_angstrom3(symbol) == pytest.approx(ours, rel=0.01), symbol


def test_mean_inner_potentials_are_those_of_composition_and_volume(hand: ModuleType) -> None:
    """Protein, DNA, RNA and ice within 3 %."""
    residues = {
        "protein": (hand.read_structure(hand.PROTEIN), hand.AMINO_ACIDS),
        "DNA": (hand.read_structure(hand.NUCLEOSOME), hand.DNA),
        "RNA": (hand.made_up([name for _ in range(8) for name in hand.RNA], hand.RNA), hand.RNA),
    }
    found = {}
    for kind, (structure, names) in residues.items():
        atoms, there = hand.residues_of(structure, names)
        potential, volume = hand.by_hand(there, 0.0)
        found[kind] = mean_inner_potential(atoms)
        assert found[kind] == pytest.approx(potential / volume, rel=0.03), kind
    assert physical_scattering(0.91).ice_volt == pytest.approx(hand.ice_by_hand(0.91), rel=0.03)
    # as is known of their densities: ice, protein, nucleic acids
    assert (
        4.3 < physical_scattering(0.91).ice_volt < 4.6 < 7.8 < found["protein"] < 8.4 < 8.8 < found["DNA"] < found["RNA"] < 9.5
    )


@pytest.mark.parametrize(("name", "names"), [("PROTEIN", ("AMINO_ACIDS",)), ("NUCLEOSOME", ("AMINO_ACIDS", "DNA"))])
def test_the_phase_of_a_whole_molecule_is_its_potential_less_the_ice_that_it_displaces(
    hand: ModuleType, name: str, names: tuple[str, ...]
) -> None:
    known = [residue for table in names for residue in getattr(hand, table)]
    atoms, there = hand.residues_of(hand.read_structure(getattr(hand, name)), known)
    ice = hand.ice_by_hand()
    potential, volume = hand.by_hand(there, ice)
    assert hand.integrated_volt_angstrom3(atoms) == pytest.approx(potential - ice * volume, rel=0.03)
    # Of heavy atoms alone, each with the same ice, six tenths are left.
    assert hand.integrated_volt_angstrom3(atoms.bare()) < 0.65 * (potential - ice * volume)


def test_hydrogens_on_the_ice_of_an_average_protein_give_the_contrast_that_was_measured(hand: ModuleType) -> None:
    """V Å^3 a heavy atom where each displaces 17.4 Å^3: 62.0 and 59.6; without hydrogens 36.4 and 38.4."""
    for name, with_hydrogens, without in (("PROTEIN", 62.0, 36.4), ("NUCLEOSOME", 59.6, 38.4)):
        atoms = hand.read_structure(getattr(hand, name)).atoms
        same = atoms._replace(displaced_angstrom3=np.full(len(atoms.element), np.float32(17.4)))
        assert hand.integrated_volt_angstrom3(same) / len(atoms.element) == pytest.approx(with_hydrogens, abs=0.2)
        assert hand.integrated_volt_angstrom3(atoms.bare()) / len(atoms.element) == pytest.approx(without, abs=0.2)


def test_gold_and_carbon_are_on_the_molecules_scale() -> None:
    """Gold of 19.3 g/cm^3 (a cell of 4.08 Å with 4 atoms), carbon of 2.0: a tenth of an atom in an Å^3."""
    assert pytest.approx(mean_potential_volt({79: 4}, 4.078**3), rel=0.01) == GOLD_VOLT
    assert pytest.approx(mean_potential_volt({6: 0.1003}, 1.0), rel=0.01) == CARBON_VOLT


def test_the_released_grain_is_coarser() -> None:
    """7.8 times the power below 1/50 1/Å, and far less at the ice's own ring."""
    released, default = (physical_scattering(gaussians=SOLVENT_NOISE[name]).solvent_noise_power for name in ("parakeet_0.4", "parakeet_0.6"))  # fmt: skip
    low = np.linspace(0, 1 / 50, 50)
    assert released(low).mean() / default(low).mean() == pytest.approx(7.8, rel=0.02)
    ring = np.array([1 / 2.88])
    assert released(ring) < 0.5 * default(ring)


def test_the_bench_counts_formulas(hand: ModuleType) -> None:
    assert hand.counted("C10H12N5O6P") == Counter({"C": 10, "H": 12, "N": 5, "O": 6, "P": 1})
