"""The reference engine of VOLUME: EMAN2's ``e2pdb2mrc.py`` (Tang et al. 2007), run as a program of its own."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import gemmi
import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import Fault
from template_learning.common.mrc import read_mrc
from template_learning.common.programs import find_program, run_program, words_of
from template_learning.structures.density import cube_edge

E2PDB2MRC = "e2pdb2mrc.py"


def eman2_command(atoms: Path, density: Path, voxel_size_angstrom: float, resolution_angstrom: float, edge: int) -> list[str]:
    """The call that turns a PDB file into a cube of ``edge`` voxels, the file's origin at its middle."""
    numbers = [f"--apix={voxel_size_angstrom:g}", f"--res={resolution_angstrom:g}", f"--box={edge}"]
    return [E2PDB2MRC, *numbers, "--quiet", str(atoms), str(density)]


def program() -> dict[str, str]:
    """Name and version for the sidecars; BadInput where the program is not on the PATH."""
    find_program(E2PDB2MRC, "volume.engine = 'eman2'", "run in the image `eman2`, or take 'native'")
    version = next((word for word in words_of(["e2version.py"]) if word[:1].isdigit()), "unknown")
    return {"program": "EMAN2", "program_version": version}


def density_by_eman2(
    position_angstrom: NDArray[np.floating], element: NDArray[np.uint8], voxel_size_angstrom: float, resolution_angstrom: float
) -> NDArray[np.float32]:
    """EMAN2's density [z, y, x] of atoms at positions (N, 3) from the middle of the native engine's cube.

    Raises Fault where the program fails.
    """
    edge = cube_edge(position_angstrom, voxel_size_angstrom, resolution_angstrom)
    with TemporaryDirectory() as name:
        atoms, density = Path(name) / "atoms.pdb", Path(name) / "density.mrc"
        write_pdb(atoms, position_angstrom, element)
        command = eman2_command(atoms, density, voxel_size_angstrom, resolution_angstrom, edge)
        # The program asks the PATH for its Python: its own folder comes first.
        beside = str(Path(shutil.which(E2PDB2MRC) or E2PDB2MRC).parent)
        environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"}
        run_program(E2PDB2MRC, command, folder=Path(name), environment=environment, leaves=density)
        grid, _ = read_mrc(density, need_voxel_size=False)
    if grid.shape != (edge,) * 3:
        raise Fault(f"{E2PDB2MRC} made {grid.shape} voxels (z, y, x); {(edge,) * 3} were expected")
    return np.asarray(grid, dtype=np.float32)


def write_pdb(path: Path, position_angstrom: NDArray[np.floating], element: NDArray[np.uint8]) -> None:
    """Write atoms in PDB's columns; numbers beyond what the columns hold begin again, as EMAN2 does not read them."""
    names = {number: gemmi.Element(int(number)).name.upper() for number in np.unique(element)}
    with path.open("w") as handle:
        for number, (place, kind) in enumerate(zip(position_angstrom.tolist(), element.tolist(), strict=True), start=1):
            symbol = names[kind]
            x, y, z = place
            handle.write(
                f"ATOM  {number % 100000:5d} {symbol:>2}   UNK A{number % 10000:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00          {symbol:>2}\n"
            )
        handle.write("END\n")
