"""Annotations of particles, read from the formats that the field keeps them in.

Every row is attributed to its tomogram, in its own row's pixel size and with its shift of origin, or the file is refused.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gemmi
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from template_learning.common.errors import BadInput, first_problem
from template_learning.common.files import existing, read_rows, read_text
from template_learning.common.geometry import Grid, angles_from_rotation, rotation_from_angles
from template_learning.common.log import tell
from template_learning.common.tables import ParticleRow

KNOWN = "a .csv, .star, .json (copick) or .xml (DeepFinder) file"
POSITION = ("x_angstrom", "y_angstrom", "z_angstrom")
ANGLES = ("rot_deg", "tilt_deg", "psi_deg")
ENDINGS = re.compile(r"(\.(tomostar|mrcs?|map|rec|st|ali|ccp4|hdf|zarr|gz|bz2|xz))+$", re.IGNORECASE)
AROUND_A_NAME = re.compile(r"^rec_|(_\d+(\.\d+)?Apx|_Vol|_rec|_full_rec)$", re.IGNORECASE)
"""What IMOD, RELION, Warp and AreTomo set about a tilt series' name where they name its tomogram."""
CSV_TOMOGRAM_COLUMNS = (
    "tomogram", "tomogram_id", "tomogram_name", "tomo", "tomo_id", "tomo_name", "rlntomoname", "rlnmicrographname", "micrograph",
    "micrograph_name", "run", "run_name", "experiment", "tilt_series", "tomogram_file", "tomogram_path", "path", "filename",
    "file_name", "file", "tomo_idx", "id",
)  # fmt: skip
CSV_CLASS_COLUMNS = (
    "class",
    "class_name",
    "label",
    "species",
    "particle_type",
    "particle_name",
    "object",
    "object_name",
    "type",
)
"""Columns by which people tell kinds of particles apart; which class of the model each is, class_id alone says."""
CSV_SCORE_COLUMNS = ("score", "confidence", "probability", "ccc", "cc", "lcc_max", "figure_of_merit")
STAR_TOMOGRAM_COLUMNS = ("rlnTomoName", "rlnTomogramName", "rlnMicrographName", "wrpSourceName")
BEYOND_VOXELS = 1.0
"""A particle's middle may lie this far beyond the tomogram: refinement shifts those at its edge."""
UNLIKELY = 1e-6
"""As improbable as this, particles spread at random all lie in the corner that voxels read as ångström would leave them."""


def read_annotations(path: Path, identifier: str, grid: Grid) -> list[ParticleRow]:
    """The particles annotated in one tomogram; class 1 where the file names no classes.

    * ``.csv``: columns x_angstrom, y_angstrom, z_angstrom (Å from voxel (0, 0, 0)) or x, y, z (voxels of the tomogram,
      from 0), and optionally class_id, rot_deg, tilt_deg, psi_deg, axis_x, axis_y, axis_z, molecule, species.
    * ``.star``: RELION 5 (rlnCenteredCoordinateXAngst, ...) or earlier (rlnCoordinateX, ... in pixels of the row's own
      rlnTomoTiltSeriesPixelSize, rlnMicrographPixelSize, rlnImagePixelSize, rlnPixelSize, or rlnDetectorPixelSize and
      rlnMagnification, which may stand in its optics group; else of the tomogram); rlnOriginXAngst or rlnOriginX is
      subtracted.
    * ``.json``: copick picks (Å).
    * ``.xml``: a DeepFinder object list (class_label; x, y, z in voxels).

    Only rows of ``identifier`` are taken where the file names tomograms (``CSV_TOMOGRAM_COLUMNS``,
    ``STAR_TOMOGRAM_COLUMNS``, copick's run_name, DeepFinder's tomo_idx); paths, endings and what programs set about a name
    are not minded.

    Parameters
    ----------
    path : Path
        The file.
    identifier : str
        The tomogram's name.
    grid : Grid
        The tomogram's shape and voxel size.

    Returns
    -------
    list of ParticleRow
        Positions (x, y, z) in Å from the centre of voxel (0, 0, 0).

    Raises
    ------
    BadInput
        Another kind of file, a row that cannot be read or attributed, or NaN or infinite numbers.
    """
    reader = READERS.get(existing(path).suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: annotations in {KNOWN} were expected")
    found = reader(path, identifier, grid)
    for names in (POSITION, ANGLES):
        wrong = sum(not all(_finite(cells.get(name)) for name in names) for cells in found)
        if wrong:
            what = "positions" if names is POSITION else "angles"
            raise BadInput(
                f"{path}: {wrong} of {len(found)} annotations have NaN or infinite {what}; finite ones were expected"
            )
    rows = []
    for number, cells in enumerate(found, start=1):
        try:
            rows.append(ParticleRow.model_validate({"particle": number, **cells}))
        except ValidationError as error:
            column, problem = first_problem(error)
            raise BadInput(f"{path}: annotation {number}, {column}: {problem}") from None
    return rows


def _finite(value: Any) -> bool:
    """Whether a number is one; text that is no number is another's complaint."""
    try:
        return value in (None, "") or bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return True


def check_annotations(particles: Sequence[ParticleRow], grid: Grid, path: Path) -> None:
    """Refuse annotations that cannot be those of a tomogram on ``grid``, with how many of how many and the probable cause.

    BadInput where there are none, some lie outside the tomogram, all lie in the corner that voxels read as ångström would
    leave, or two of a class lie at one place.
    """
    if not particles:
        raise BadInput(f"{path}: no annotations in it; where a tomogram has none, its cell was expected to be empty")
    position = np.array([(p.x_angstrom, p.y_angstrom, p.z_angstrom) for p in particles])
    count, voxel = len(particles), grid.voxel_size_angstrom
    box = " x ".join(f"{edge:.0f}" for edge in grid.extent_angstrom)
    outside = ~_inside(position, grid)
    if outside.any():
        first = ", ".join(f"{value:.4g}" for value in position[outside.argmax()])
        raise BadInput(
            f"{path}: {int(outside.sum())} of {count} annotations lie outside the tomogram of {box} Å (x, y, z): "
            f"number {int(outside.argmax()) + 1} at {first} Å{_cause(position, grid)}"
        )
    if voxel > 1 and voxel ** (-3.0 * count) < UNLIKELY and _inside(position * voxel, grid).all():
        raise BadInput(
            f"{path}: all {count} annotations lie in a corner of the tomogram of {box} Å, an edge {voxel:.3g} times shorter: "
            "they look like voxels where ångström were expected (columns x, y, z of a CSV are voxels)"
        )
    _, first_of, same = np.unique(
        np.column_stack([np.round(position, 2), [p.class_id for p in particles]]), axis=0, return_index=True, return_counts=True
    )
    if (same > 1).any():
        doubled = int(same[same > 1].sum())
        raise BadInput(
            f"{path}: {doubled} of {count} annotations lie at the place of another of their class (the first is number "
            f"{int(first_of[same > 1].min()) + 1}); each once was expected: rows twice, or expanded by symmetry?"
        )
    _tell_of_doubts(particles, position, voxel, path)


def _tell_of_doubts(particles: Sequence[ParticleRow], position: NDArray[np.float64], voxel_angstrom: float, path: Path) -> None:
    count = len(particles)
    classes = np.array([p.class_id for p in particles])
    near = {
        place
        for number in np.unique(classes)
        for pair in KDTree(position[classes == number]).query_pairs(voxel_angstrom)
        for place in np.flatnonzero(classes == number)[list(pair)].tolist()
    }
    if near:
        tell(
            f"{path}: {len(near)} of {count} annotations lie within a voxel of another of their class; is a particle there twice?"
        )
    angles = np.array([[getattr(p, name) or 0.0 for name in ANGLES] for p in particles])
    if count > 1 and angles.any() and np.abs(angles).max() <= np.pi + 1e-3:
        tell(f"{path}: all angles lie within 3.14; in radians? degrees were expected")


def _inside(position_angstrom: NDArray[np.float64], grid: Grid) -> NDArray[np.bool_]:
    beyond = (0.5 + BEYOND_VOXELS) * grid.voxel_size_angstrom
    highest = grid.extent_angstrom - grid.voxel_size_angstrom + beyond
    return np.asarray(((position_angstrom >= -beyond) & (position_angstrom <= highest)).all(axis=1))


def _cause(position: NDArray[np.float64], grid: Grid) -> str:
    """What would bring all annotations inside."""
    voxel = grid.voxel_size_angstrom
    guesses = (
        (
            position + grid.centre_angstrom,
            "counted from the tomogram's middle? (rlnCenteredCoordinateXAngst, ... in a STAR file)",
        ),
        (position[:, ::-1], "x and z exchanged?"),
        (position[:, [0, 2, 1]], "y and z exchanged?"),
        (position / 2, "positions in a tomogram of half this voxel size? divided by 2 all lie inside"),
        (position / 4, "positions in a tomogram of a quarter of this voxel size? divided by 4 all lie inside"),
        (
            position / voxel,
            f"ångström where voxels were expected? divided by {voxel:g} all lie inside (x_angstrom, ... in a CSV)",
        ),
        (position / 8, "positions in a tomogram of an eighth of this voxel size? divided by 8 all lie inside"),
    )
    return next((f": {words}" for other, words in guesses if _inside(other, grid).all()), "")


def tomogram_name(text: str) -> str:
    """What a file or a path calls a tomogram: its last part, without endings such as .mrc and .tomostar."""
    return ENDINGS.sub("", text.strip().replace("\\", "/").rsplit("/", 1)[-1])


def _attributed(path: Path, identifier: str, names: Sequence[str], column: str) -> list[bool]:
    """Which rows are those of the tomogram, by the names that ``column`` has; BadInput where that is not certain."""
    blank = sum(not name for name in names)
    if blank:
        raise BadInput(f"{path}: {blank} of {len(names)} rows name no tomogram in {column}; every row's was expected")
    known = {name: tomogram_name(name) for name in set(names)}
    wanted = tomogram_name(identifier)
    same = {name for name, bare in known.items() if bare == wanted}
    if not same:
        same = {name for name, bare in known.items() if _bare(bare) == _bare(wanted)}
        if len({known[name] for name in same}) > 1:
            raise BadInput(f"{path}: {column} has {_some(same)}, each of which may be {identifier!r}; one name was expected")
    if not same:
        raise BadInput(
            f"{path}: {column} has rows of {_some(known)}, none of {identifier!r}; "
            "the id in the table of tomograms and the name there were expected to be the same"
        )
    return [name in same for name in names]


def _bare(name: str) -> str:
    while (shorter := AROUND_A_NAME.sub("", name)) != name and shorter:
        name = shorter
    return name


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(repr(name) for name in listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _from_csv(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    columns, lines = read_rows(path)
    lower = [name.lower() for name in columns]
    doubled = sorted({name for name in lower if lower.count(name) > 1})
    if doubled:
        raise BadInput(f"{path}: the column {doubled[0]!r} stands there twice; each once was expected")
    rows = [(line, {name.lower(): cell for name, cell in cells.items()}) for line, cells in lines]
    if set(POSITION) <= set(lower):
        names, scale = POSITION, 1.0
    elif {"x", "y", "z"} <= set(lower):
        names, scale = ("x", "y", "z"), grid.voxel_size_angstrom
    else:
        raise BadInput(f"{path}: columns x_angstrom, y_angstrom, z_angstrom, or x, y, z in voxels, were expected")
    column = next((name for name in CSV_TOMOGRAM_COLUMNS if name in lower), None)
    if column in ("id", "tomo_idx") and _are_numbers([cells[column] for _, cells in rows], identifier, column, path):
        column = None
    if column is not None and rows:
        taken = _attributed(path, identifier, [cells[column] for _, cells in rows], f"column {column!r}")
        rows = [row for row, mine in zip(rows, taken, strict=True) if mine]
    if "selected" in lower:
        kept = [row for row in rows if row[1]["selected"].lower() in ("true", "1", "yes")]
        if len(kept) < len(rows):
            tell(f"{path}: {len(kept)} of {len(rows)} rows are selected, and no other is taken")
        rows = kept
    scored = [name for name in CSV_SCORE_COLUMNS if name in lower]
    if scored:
        tell(f"{path}: column {scored[0]!r} is not looked at: every row counts alike, as something that is there")
    for name in CSV_CLASS_COLUMNS if "class_id" not in lower else ():
        classes = {cells[name] for _, cells in rows if name in cells}
        if len(classes) > 1:
            raise BadInput(
                f"{path}: column {name!r} has {_some(classes)} and no column class_id says which class each is; it was expected"
            )
    known = [name for name in lower if name in ParticleRow.model_fields and name not in names]
    return [
        {
            **_position([cells[name] for name in names], scale, f"{path}: line {line}"),
            **{name: cells[name] for name in known if cells[name]},
        }
        for line, cells in rows
    ]


def _are_numbers(values: Sequence[str], identifier: str, column: str, path: Path) -> bool:
    """Whether a column numbers the rows (``id``) or the one tomogram (``tomo_idx``) instead of naming tomograms."""
    if not all(value.isdecimal() for value in values):
        return False
    if column == "id":
        return len(set(values)) == len(values)
    if len(set(values)) > 1 and identifier not in values:
        raise BadInput(
            f"{path}: {column} has {_some(set(values))}, and which is {identifier!r} is not told; a file of one tomogram was expected"
        )
    return len(set(values)) == 1


def _from_copick(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    try:
        content = json.loads(read_text(path))
        if content.get("run_name"):
            _attributed(path, identifier, [str(content["run_name"])], "run_name")
        if content.get("unit", "angstrom") != "angstrom":
            raise BadInput(f"{path}: unit {content['unit']!r}; 'angstrom' was expected")
        found = []
        for point in content["points"] or []:
            location = point["location"]
            transform = np.array(point.get("transformation_") or np.eye(4), dtype=float)
            shift = transform[:3, 3]  # copick: the particle's centre is the location plus this
            cells = _position([location[name] + move for name, move in zip("xyz", shift, strict=True)], 1.0, str(path))
            turn = transform[:3, :3]
            if not np.isfinite(turn).all():
                cells["rot_deg"] = np.nan
            elif not np.allclose(turn, np.eye(3)):  # unturned means not known
                cells.update(_angles(Rotation.from_matrix(turn)))
            found.append({**cells, "species": str(content.get("pickable_object_name", ""))})
    except BadInput:
        raise
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(f"{path}: not copick picks ({error!r})") from None
    return found


def _angles(turn: Rotation) -> dict[str, float]:
    return dict(zip(ANGLES, map(float, angles_from_rotation(turn)), strict=True))


def _from_deepfinder(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    try:
        objects = list(ElementTree.parse(path).getroot().iter("object"))
        indices = [item.attrib.get("tomo_idx", "") for item in objects]
        if len(set(indices) - {""}) > 1 and not _are_numbers(indices, identifier, "tomo_idx", path):
            taken = _attributed(path, identifier, indices, "tomo_idx")
            objects = [item for item, mine in zip(objects, taken, strict=True) if mine]
        return [
            {
                **_position([item.attrib[name] for name in "xyz"], grid.voxel_size_angstrom, f"{path}: object {number}"),
                "class_id": item.attrib.get("class_label", "1"),
            }
            for number, item in enumerate(objects, start=1)
        ]
    except (ElementTree.ParseError, KeyError, LookupError) as error:
        raise BadInput(f"{path}: not a DeepFinder object list ({error!r})") from None


@dataclass(frozen=True)
class _StarTable:
    """A loop of a STAR file, or the single values of a block."""

    block: str
    columns: tuple[str, ...]
    rows: list[dict[str, str]]


def _from_star(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    tables = _star_tables(path)
    centred, corner = "rlnCenteredCoordinate{}Angst", "rlnCoordinate{}"
    holding = [table for table in tables if {centred.format("X"), corner.format("X")} & set(table.columns)]
    if not holding:
        raise BadInput(f"{path}: no block with rlnCenteredCoordinateXAngst or rlnCoordinateX in it")
    if len(holding) > 1:
        blocks = ", ".join(f"data_{table.block}" for table in holding)
        raise BadInput(f"{path}: particles in several blocks ({blocks}); one was expected")
    particles = holding[0]
    kind = centred if centred.format("X") in particles.columns else corner
    lacking = [kind.format(axis) for axis in "YZ" if kind.format(axis) not in particles.columns]
    if lacking:
        raise BadInput(f"{path}: {kind.format('X')} without {lacking[0]}; particles in three dimensions were expected")
    rows = list(enumerate(particles.rows, start=1))
    column = next((name for name in STAR_TOMOGRAM_COLUMNS if name in particles.columns), None)
    if column is not None and rows:
        taken = _attributed(path, identifier, [row[column] for row in particles.rows], column)
        rows = [row for row, mine in zip(rows, taken, strict=True) if mine]
    numbers = {row["rlnClassNumber"] for _, row in rows if row.get("rlnClassNumber")}
    if len(numbers) > 1:
        tell(f"{path}: rlnClassNumber {_some(numbers)} are not told apart: all are class 1 (a CSV with class_id tells classes)")
    sizes = _PixelSizes(path, [table for table in tables if table is not particles], grid.voxel_size_angstrom)
    found = []
    for number, row in rows:
        where = f"{path}: row {number}"
        values = [row[kind.format(axis)] for axis in "XYZ"]
        if kind == centred:
            cells = _position(values, 1.0, where)
            shift = grid.centre_angstrom + 0.5 * grid.voxel_size_angstrom
        else:
            cells, shift = _position(values, sizes.of_coordinates(row, number), where), np.zeros(3)
        turn = _turn(row, "rlnTomoSubtomogram{}", where)
        shift = shift - (turn.apply(_origin(row, number, sizes, where)) if turn else _origin(row, number, sizes, where))
        for name, add in zip(POSITION, shift, strict=True):
            cells[name] += float(add)
        if turn:
            own = _turn(row, "rlnAngle{}", where)
            cells.update(_angles(turn * own if own else turn))
        else:
            for ours, theirs in zip(ANGLES, ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), strict=True):
                if row.get(theirs):
                    cells[ours] = _number(row[theirs], f"{where}: {theirs}")
        found.append(cells)
    return found


def _origin(row: Mapping[str, str], number: int, sizes: "_PixelSizes", where: str) -> NDArray[np.float64]:
    """The row's shift of origin in ångström, which is subtracted from the coordinate."""
    for kind, in_pixels in (("rlnOrigin{}Angst", False), ("rlnOrigin{}", True)):
        names = [kind.format(axis) for axis in "XYZ"]
        if any(row.get(name) for name in names):
            shift = np.array([_number(row.get(name) or "0", f"{where}: {name}") for name in names])
            return shift * sizes.of_images(row, number) if in_pixels and shift.any() else shift
    return np.zeros(3)


def _turn(row: Mapping[str, str], kind: str, where: str) -> Rotation | None:
    """The active rotation of three angles of a row, none where they are not there or not turned."""
    names = [kind.format(angle) for angle in ("Rot", "Tilt", "Psi")]
    angles = [_number(row.get(name) or "0", f"{where}: {name}") for name in names]
    if not np.isfinite(angles).all():
        raise BadInput(f"{where}: {', '.join(names)} = {angles}; finite angles were expected")
    return rotation_from_angles(angles) if any(angles) else None


SIZES = (
    "rlnTomoTiltSeriesPixelSize",
    "rlnMicrographPixelSize",
    "rlnImagePixelSize",
    "rlnPixelSize",
    "rlnDetectorPixelSize",
)


class _PixelSizes:
    """The pixel sizes in ångström that a STAR file tells for its particles' rows, in their row or in another table."""

    def __init__(self, path: Path, others: Sequence[_StarTable], tomogram_angstrom: float):
        self.path, self.others, self.tomogram_angstrom = path, others, tomogram_angstrom
        self.known: dict[tuple[str, ...], float | None] = {}
        self.guessed = False

    def of_coordinates(self, row: Mapping[str, str], number: int) -> float:
        """Of the image that rlnCoordinateX counts in."""
        for name in ("rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize"):
            size = self._value(row, number, name)
            if size is not None:
                return size
        return self.of_images(row, number, self.tomogram_angstrom)

    def of_images(self, row: Mapping[str, str], number: int, default: float | None = None) -> float:
        """Of the particle's own image, in which rlnOriginX counts."""
        told = {name: self._value(row, number, name) for name in ("rlnImagePixelSize", "rlnPixelSize")}
        detector = self._value(row, number, "rlnDetectorPixelSize")
        magnification = self._value(row, number, "rlnMagnification")
        if detector is not None and magnification is not None:
            told["rlnDetectorPixelSize and rlnMagnification"] = detector * 1e4 / magnification
        sizes = {name: size for name, size in told.items() if size is not None}
        if not sizes:
            if detector is not None:
                raise BadInput(f"{self.path}: row {number}: rlnDetectorPixelSize without rlnMagnification; both were expected")
            unknown = {name for table in [*self.others, _StarTable("", tuple(row), [])] for name in table.columns}
            unknown = {name for name in unknown if "PixelSize" in name} - set(SIZES)
            if unknown:
                raise BadInput(
                    f"{self.path}: {_some(unknown)} alone, which is not known to be the coordinates'; rlnTomoTiltSeriesPixelSize "
                    "was expected"
                )
            if default is None:
                return self.of_coordinates(row, number)
            if not self.guessed:
                tell(f"{self.path}: no pixel size is told; coordinates are read as voxels of the tomogram, {default:g} Å")
                self.guessed = True
            return default
        if max(sizes.values()) > 1.01 * min(sizes.values()):
            said = ", ".join(f"{size:g} Å by {name}" for name, size in sizes.items())
            raise BadInput(
                f"{self.path}: row {number}: pixels of {said}; one size was expected (rlnTomoTiltSeriesPixelSize decides)"
            )
        return next(iter(sizes.values()))

    def _value(self, row: Mapping[str, str], number: int, name: str) -> float | None:
        """A positive number of the row, or of the tables beside it that the row's optics group or tomogram points to."""
        keys = ("rlnOpticsGroup", "rlnTomoName")
        place = (name, row.get(name, ""), *(row.get(key, "") for key in keys))
        if place not in self.known:
            where = f"{self.path}: row {number}"
            values = {row[name]} if row.get(name) else set()
            for table in self.others if not values else ():
                if name not in table.columns:
                    continue
                joined = [key for key in keys if key in table.columns and row.get(key)]
                found = [other for other in table.rows if all(other[key] == row[key] for key in joined)]
                if not found and joined:
                    raise BadInput(
                        f"{where}: {joined[0]} {row[joined[0]]!r} is not in data_{table.block}; its {name} was expected"
                    )
                values |= {other[name] for other in found if other[name]}
            numbers = sorted({_number(value, f"{where}: {name}") for value in values})
            if len(numbers) > 1 and numbers[-1] > numbers[0] * 1.0001:
                several = ", ".join(f"{value:g}" for value in numbers)
                raise BadInput(f"{where}: {name} of {several}, and which is not told; rlnOpticsGroup in the rows was expected")
            if numbers and not 0 < numbers[0] < np.inf:
                raise BadInput(f"{where}: {name} = {numbers[0]:g}; a positive number was expected")
            self.known[place] = numbers[0] if numbers else None
        return self.known[place]


def _star_tables(path: Path) -> list[_StarTable]:
    """The tables of a STAR file, which gemmi's reader of CIF takes: quotes, comments and text fields included."""
    try:
        document = gemmi.cif.read_string(read_text(path))
    except (RuntimeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        line = re.match(r"string:(\d+)", str(error))
        told = str(error).removeprefix("string").rsplit(": ", 1)[-1].removeprefix(":")
        raise BadInput(f"{path}: not a STAR file ({told}{f', line {line.group(1)}' if line else ''})") from None
    tables = []
    for block in document:
        name = block.name.strip()
        single: dict[str, str] = {}
        for item in block:
            pair: Any = item.pair
            if pair is not None:
                single[pair[0].removeprefix("_")] = gemmi.cif.as_string(pair[1])
            elif item.loop is not None:
                columns = tuple(tag.removeprefix("_") for tag in item.loop.tags)
                values = [gemmi.cif.as_string(value) for value in item.loop.values]
                width = len(columns)
                rows = [dict(zip(columns, values[i : i + width], strict=True)) for i in range(0, len(values), width)]
                tables.append(_StarTable(name, columns, rows))
        if single:
            tables.append(_StarTable(name, tuple(single), [single]))
    return tables


def _position(values: Sequence[Any], scale: float, where: str) -> dict[str, float]:
    try:
        x, y, z = (float(value) * scale for value in values)
    except (TypeError, ValueError):
        raise BadInput(f"{where}: position {list(values)}; three numbers were expected") from None
    return dict(zip(POSITION, (x, y, z), strict=True))


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{where}: {text!r}; a number was expected") from None


READERS: Mapping[str, Callable[[Path, str, Grid], list[dict[str, Any]]]] = {
    ".csv": _from_csv,
    ".json": _from_copick,
    ".star": _from_star,
    ".xml": _from_deepfinder,
}
