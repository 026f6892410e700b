"""SIMULATE beside sums by hand: mean inner potentials, the phase of whole molecules, amplitude contrast.

The sums take none of the engine's tables: forward scattering from other fits, hydrogens and masses from residues' formulas,
volumes from published partial specific volumes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
from harness import DEMO, Figure, report
from numpy.typing import NDArray
from template_learning.common.geometry import random_rotations
from template_learning.settings import MicroscopeSettings
from template_learning.simulation.ice import Slab
from template_learning.simulation.multislice import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import physical_scattering
from template_learning.structures.atoms import Atoms
from template_learning.structures.structure import Structure, read_structure

PROTEIN, NUCLEOSOME = DEMO / "distractors" / "1s3x.cif.gz", DEMO / "templates" / "2pyo.cif.gz"
BOHR_ANGSTROM, VOLT_ANGSTROM2 = 0.529177, 47.87801
# Lorentzians (a, b) and heights of Gaussians c of scattering factors (Kirkland 2010, appendix C).
LORENTZIANS_AND_GAUSSIANS = {
    "C": (((0.212080767, 0.208605417), (0.199811865, 0.208610186), (0.168254385, 5.57870773)), (0.14204836, 0.363830672, 8.35e-4)),
    "N": (((0.533015554, 0.290952515), (0.0529008883, 10.3547896), (0.0924159648, 10.3540028)), (0.261799101, 8.80e-4, 0.110166555)),
    "O": (((0.339969204, 0.38157028), (0.307570172, 0.381571436), (0.130369072, 19.1919745)), (0.0883326058, 0.1965867, 9.96e-4)),
}  # fmt: skip
# Residues in their chains: formula, and for amino acids their specific volume in cm^3/g (Cohn and Edsall 1943).
AMINO_ACIDS = {
    "ALA": ("C3H5NO", 0.74), "ARG": ("C6H12N4O", 0.70), "ASN": ("C4H6N2O2", 0.62), "ASP": ("C4H5NO3", 0.60),
    "CYS": ("C3H5NOS", 0.61), "GLN": ("C5H8N2O2", 0.67), "GLU": ("C5H7NO3", 0.66), "GLY": ("C2H3NO", 0.64),
    "HIS": ("C6H7N3O", 0.67), "ILE": ("C6H11NO", 0.90), "LEU": ("C6H11NO", 0.90), "LYS": ("C6H12N2O", 0.82),
    "MET": ("C5H9NOS", 0.75), "PHE": ("C9H9NO", 0.77), "PRO": ("C5H7NO", 0.76), "SER": ("C3H5NO2", 0.63),
    "THR": ("C4H7NO2", 0.70), "TRP": ("C11H10N2O", 0.74), "TYR": ("C9H9NO2", 0.71), "VAL": ("C5H9NO", 0.86),
}  # fmt: skip
DNA = {"DA": "C10H12N5O5P", "DC": "C9H12N3O6P", "DG": "C10H12N5O6P", "DT": "C10H13N2O7P"}
RNA = {"A": "C10H12N5O6P", "C": "C9H12N3O7P", "G": "C10H12N5O7P", "U": "C9H11N2O8P"}
# DNA: of its sodium salt (Durchschlag 1986), whose sodium takes no room.  RNA: of packed nucleotides without ions (Voss and
# Gerstein, J. Mol. Biol. 346 (2005) 477).
DNA_SALT_CM3_PER_G, SODIUM_FOR_HYDROGEN_DALTON, RNA_CM3_PER_G = 0.55, 21.98, 0.577
FIGURES = {
    "phase_ratio_protein": Figure("phase of a protein (1S3X), integrated, over the sum by hand", "0.97 to 1.03"),
    "phase_ratio_dna": Figure("the same, the DNA of a nucleosome (2PYO)", "0.97 to 1.03"),
    "phase_ratio_rna": Figure("the same, a made-up RNA", "0.97 to 1.03"),
    "phase_ratio_nucleosome": Figure("the same, the whole nucleosome (2PYO)", "0.97 to 1.03"),
    "mean_inner_potential_protein_volt": Figure("mean inner potential of protein (1S3X) in the engine's images, volt"),
    "mean_inner_potential_dna_volt": Figure("the same, DNA"),
    "mean_inner_potential_rna_volt": Figure("the same, RNA"),
    "mean_inner_potential_ice_volt": Figure("the same, ice of 0.91 g/cm^3"),
    "phase_per_atom_protein": Figure("1S3X: integrated phase over the interaction constant, V Å^3 a heavy atom"),
    "phase_per_atom_nucleosome": Figure("2PYO: the same"),
    "phase_per_atom_protein_bare": Figure("1S3X without hydrogens, as Parakeet has it: the same"),
    "amplitude_contrast": Figure(
        "effective amplitude contrast of a crowded sample by default, periods of 150 to 400 Å", "0.07 to 0.10"
    ),
    "amplitude_contrast_coarse": Figure("the same on pixels of 6.5 Å (the figures above: 4 Å)", "0.07 to 0.10"),
    "amplitude_contrast_elastic": Figure("the same without absorption: what strong scattering alone gives"),
    "transfer_at_200_angstrom": Figure("contrast transfer at a period of 200 Å and -3 um, ice of 500 Å"),
    "transfer_at_200_angstrom_coarse": Figure("the same on pixels of 6.5 Å"),
    "transfer_at_200_angstrom_elastic": Figure("the same on pixels of 4 Å without absorption"),
}


def counted(formula: str) -> Counter[str]:
    """Atoms of a formula by element."""
    parts = gemmi.cif.read_string(f"data_x\n_a.b '{formula}'").sole_block().find_value("_a.b").strip("'")
    found: Counter[str] = Counter()
    symbol, number = "", ""
    for letter in parts + "X":
        if letter.isupper():
            if symbol:
                found[symbol] += int(number or 1)
            symbol, number = letter, ""
        elif letter.isdigit():
            number += letter
    return found


def forward_volt_angstrom3(symbol: str) -> float:
    """Integral of a free atom's potential.

    Hydrogen's is exact; carbon's, nitrogen's and oxygen's from Kirkland's fits; others' by the formula of Mott and Bethe at
    small angles from X-ray scattering factors (Cromer and Mann).
    """
    if symbol == "H":
        return VOLT_ANGSTROM2 * BOHR_ANGSTROM
    if symbol in LORENTZIANS_AND_GAUSSIANS:
        lorentzians, gaussians = LORENTZIANS_AND_GAUSSIANS[symbol]
        return VOLT_ANGSTROM2 * (sum(a / b for a, b in lorentzians) + sum(gaussians))
    table = gemmi.Element(symbol).it92
    slope = float((np.array(table.a) * np.array(table.b)).sum())  # of Z - f_x in (sin(theta) / wavelength)^2
    return VOLT_ANGSTROM2 * slope / (8 * np.pi**2 * BOHR_ANGSTROM)


def dalton(formula: Counter[str]) -> float:
    """Mass of a formula."""
    return float(sum(n * gemmi.Element(symbol).weight for symbol, n in formula.items()))


def by_hand(residues: Iterable[tuple[str, Counter[str]]], ice_volt: float) -> tuple[float, float]:
    """Potential (V Å^3) of residues, given by name and the heavy atoms that are there, and their volume (Å^3)."""
    potential = volume = 0.0
    for name, heavy in residues:
        text, specific = AMINO_ACIDS.get(name, (DNA.get(name) or RNA.get(name) or "", 0.0))
        formula = counted(text)
        whole = sum(n for symbol, n in formula.items() if symbol != "H")
        share = min(1.0, sum(heavy.values()) / whole)
        there = Counter({**heavy, "H": share * formula["H"]})
        potential += sum(n * forward_volt_angstrom3(symbol) for symbol, n in there.items())
        mass = dalton(there)
        if name in DNA:
            mass, specific = mass + SODIUM_FOR_HYDROGEN_DALTON * heavy["P"], DNA_SALT_CM3_PER_G
        elif name in RNA:
            specific = RNA_CM3_PER_G
        volume += mass * specific / 0.602214
    return potential, volume


def ice_by_hand(density_g_per_cm3: float = 0.91) -> float:
    """Mean inner potential of ice in volt."""
    water = Counter({"H": 2, "O": 1})
    return sum(n * forward_volt_angstrom3(s) for s, n in water.items()) * density_g_per_cm3 * 0.602214 / dalton(water)


def residues_of(structure: Structure, names: Iterable[str]) -> tuple[Atoms, list[tuple[str, Counter[str]]]]:
    """The atoms of a structure's residues of these names, and for each residue its name and heavy atoms."""
    chosen = np.isin(structure.residue_name, list(names))
    atoms = structure.atoms.kept(chosen)
    found: dict[int, tuple[str, Counter[str]]] = {}
    for residue, name, element in zip(
        structure.residue[chosen].tolist(), structure.residue_name[chosen].tolist(), atoms.element.tolist(), strict=True
    ):
        found.setdefault(residue, (name, Counter()))[1][gemmi.Element(element).name] += 1
    return atoms._replace(position_angstrom=atoms.position_angstrom - atoms.position_angstrom.mean(axis=0)), list(
        found.values()
    )


def made_up(names: list[str], formulas: dict[str, str]) -> Structure:
    """A ball of whole residues, an atom every 16 Å^3."""
    kinds = [[s for s, n in counted(formulas[name]).items() if s != "H" for _ in range(n)] for name in names]
    count = sum(map(len, kinds))
    position = np.random.default_rng(0).normal(size=(count, 3))
    radius = (3 / (4 * np.pi) * 16 * np.arange(1, count + 1)) ** (1 / 3)
    position *= (radius / np.linalg.norm(position, axis=1))[:, None]
    residue = np.repeat(np.arange(len(names)), list(map(len, kinds)))
    empty = np.full(count, "")
    return Structure(
        name="made_up",
        position_angstrom=position - position.mean(axis=0),
        origin_angstrom=np.zeros(3),
        element=np.array([gemmi.Element(s).atomic_number for kind in kinds for s in kind], np.uint8),
        atom_name=empty,
        residue_name=np.array(names)[residue],
        residue_number=residue.astype(np.int32),
        insertion_code=empty,
        chain=empty,
        hetero=np.zeros(count, bool),
    )


def engine_of(sample: Sample, pixels: int, **changes: object) -> Engine:
    """An engine on pixels of 4 Å, without damage."""
    lens = Lens(defocus_angstrom=-30000.0)
    common = {"shape": (pixels, pixels), "pixel_angstrom": 4.0, "damage_angstrom2_per_dose": 0.0, "padding_angstrom": 0.0}
    return Engine(sample=sample, scattering=physical_scattering(), lens=lens, **{**common, **changes})  # type: ignore[arg-type]


def integrated_volt_angstrom3(atoms: Atoms) -> float:
    """Phase of a molecule's exit wave, integrated over the image, over the interaction constant."""
    alone = Sample([atoms], np.zeros(1, np.int64), random_rotations(1, np.random.default_rng(1)).as_matrix(), np.zeros((1, 3)), Slab(300.0))  # fmt: skip
    engine = engine_of(alone, 96, propagation="projection")
    wave, _ = engine.exit_wave(0.0, 0.0, None)
    return float(np.angle(wave).sum(dtype=float) * engine.working_pixel_angstrom**2 / engine.phase_per_volt_angstrom)


def crowd(folder: Path = PROTEIN) -> Sample:
    """Proteins at random places, 30 Å or more from a face, in 1024 x 1024 x 500 Å of ice: about 110 mg/mL."""
    generator = np.random.default_rng(2)
    count = 600
    place = generator.uniform(-1, 1, (count, 3)) * (482, 482, 220)
    atoms = read_structure(folder).atoms
    return Sample([atoms], np.zeros(count, np.int64), random_rotations(count, generator).as_matrix(), place, Slab(500.0))


def transfer(
    sample: Sample, pixels: int, pixel_angstrom: float, amplitude_contrast: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], Lens]:
    """Frequencies in 1/Å, and there the image's transform over that of the phase (2 sin chi for a weak object)."""
    engine = engine_of(sample, pixels, pixel_angstrom=pixel_angstrom, amplitude_contrast=amplitude_contrast)
    wave, _ = replace(engine, propagation="projection", amplitude_contrast=0.0).exit_wave(0.0, 0.0, None)
    phase = np.fft.fft2(np.angle(wave))
    image = np.fft.fft2(engine.intensity(*engine.exit_wave(0.0, 0.0, None)))
    frequency = np.sqrt(engine.grid.frequency_squared)
    edges = 1 / np.linspace(400, 50, 141)
    ring = np.digitize(frequency, edges)
    inside = (ring > 0) & (ring < len(edges))
    product = np.bincount(ring[inside], (image * phase.conj()).real[inside], len(edges))
    power = np.bincount(ring[inside], (np.abs(phase) ** 2)[inside], len(edges))
    middle = np.bincount(ring[inside], frequency[inside], len(edges)) / np.maximum(
        np.bincount(ring[inside], minlength=len(edges)), 1
    )
    full = power > 0
    return middle[full], -product[full] / power[full], engine.lens


def amplitude_figures() -> dict[str, float]:
    """Effective amplitude contrast, by default and without absorption."""
    sample, default = crowd(), MicroscopeSettings().amplitude_contrast
    cases = {"": (256, 4.0, default), "_coarse": (158, 6.5, default), "_elastic": (256, 4.0, 0.0)}
    figures: dict[str, float] = {}
    for suffix, case in cases.items():
        frequency, found, lens = transfer(sample, *case)
        chi = np.pi * wavelength_angstrom(lens.voltage_kv) * -lens.defocus_angstrom * frequency**2
        low = (frequency > 1 / 400) & (frequency < 1 / 150)
        # found / 2 = sqrt(1 - A^2) sin chi + A cos chi = sin(chi + arcsin A)
        shift = np.arcsin(np.clip(found[low] / 2, -1, 1)) - chi[low]
        figures[f"amplitude_contrast{suffix}"] = float(np.sin(np.mean(shift)))
        near = np.abs(1 / frequency - 200) < 20
        figures[f"transfer_at_200_angstrom{suffix}"] = float(found[near].mean())
    return figures


def molecule_figures() -> dict[str, float]:
    """Phases and mean inner potentials beside the sums by hand."""
    protein, nucleosome = read_structure(PROTEIN), read_structure(NUCLEOSOME)
    rna = made_up([name for _ in range(60) for name in RNA], RNA)
    ice, ice_volt = ice_by_hand(), physical_scattering().ice_volt
    cases = {
        "protein": residues_of(protein, AMINO_ACIDS),
        "dna": residues_of(nucleosome, DNA),
        "rna": residues_of(rna, RNA),
        "nucleosome": residues_of(nucleosome, [*AMINO_ACIDS, *DNA]),
    }
    figures: dict[str, float] = {"mean_inner_potential_ice_volt": ice_volt}
    for name, (atoms, residues) in cases.items():
        potential, volume = by_hand(residues, ice)
        phase = integrated_volt_angstrom3(atoms)
        figures[f"phase_ratio_{name}"] = phase / (potential - ice * volume)
        if name != "nucleosome":
            figures[f"mean_inner_potential_{name}_volt"] = ice_volt + phase / volume
        if name in ("protein", "nucleosome"):
            figures[f"phase_per_atom_{name}"] = phase / len(atoms.element)
    bare = protein.atoms.bare()
    figures["phase_per_atom_protein_bare"] = integrated_volt_angstrom3(bare) / len(bare.element)
    return figures


def main() -> None:
    """Measure and report."""
    report("physics", {**molecule_figures(), **amplitude_figures()}, FIGURES, "sums by hand from other tables")


if __name__ == "__main__":
    main()
