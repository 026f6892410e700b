"""The report's sections on the simulated data: molecules, packing, imaging conditions, tilt series."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from template_learning.common.errors import BadInput
from template_learning.common.files import existing, read_table
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.report.blocks import NOTHING, Block, Illustration, ReportSection, Table, counted, number, spread
from template_learning.report.figures import degrees, packing_figure, tilt_figure
from template_learning.report.run import Run
from template_learning.report.slices import Picture, cut

SAMPLES_SHOWN = 2
TILT_PIXELS = 256
SMOOTHING_ANGSTROM = 10.0
CONDITIONS = {
    "total_dose_e_per_angstrom2": ("total dose (e/Å²)", 1),
    "defocus_um": ("defocus (µm)", 2),
    "phase_shift_deg": ("phase shift (°)", 0),
    "tilt_range_deg": ("tilt range ± (°)", 1),
    "tilt_step_deg": ("tilt step (°)", 1),
    "ice_density_g_per_cm3": ("ice density (g/cm³)", 3),
}


def class_names(run: Run) -> dict[int, str]:
    """The classes' names, of the inputs or else of the library's species."""
    names: dict[int, set[str]] = {}
    for row in (run.json("check/inputs.json") or {}).get("templates", []):
        names.setdefault(int(row["class_id"]), set()).add(str(row.get("class_name") or row["id"]))
    if not names:
        for entry in run.library.values():
            if entry.row.class_id:
                names.setdefault(entry.row.class_id, set()).add(entry.row.species)
    return {number: ", ".join(sorted(members)) for number, members in sorted(names.items())}


def molecules_section(run: Run) -> ReportSection | None:
    """The templates and distractors, with masses and conformers where the library is there."""
    inputs = run.json("check/inputs.json") or {}
    blocks: list[Block] = []
    names = class_names(run)
    for role, several in (("template", "Templates"), ("distractor", "Distractors")):
        rows = [entry.row for entry in run.library.values() if entry.row.role == role]
        species = sorted({row.species for row in rows})
        if species:
            conformers = Counter(row.species for row in rows)
            first = {row.species: row for row in reversed(rows)}
            lines = [
                [
                    name,
                    names.get(first[name].class_id, NOTHING) if role == "template" else NOTHING,
                    str(conformers[name]),
                    number(first[name].mass_dalton / 1000, 0),
                    f"{first[name].atom_count:,}",
                    number(first[name].share, 2),
                ]
                for name in species
            ]
            columns = ["molecule", "class", "structures", "mass (kDa)", "atoms", "share"]
        else:
            listed = inputs.get(f"{role}s", [])
            lines = [[str(row["id"]), str(row.get("class_name") or NOTHING), number(float(row["share"]), 2)] for row in listed]
            columns = ["molecule", "class", "share"]
        if lines:
            if role == "distractor":
                columns, lines = [columns[0], *columns[2:]], [[line[0], *line[2:]] for line in lines]
            blocks.append(Table(columns, lines, several, f"{several} ({len(lines)})" if role == "distractor" else ""))
        if role == "template":
            blocks += _conformers(run)
    return ReportSection("molecules", "Molecules", blocks) if blocks else None


def _conformers(run: Run) -> list[Block]:
    """How far the conformers of each template lie from it, and what their network was."""
    lines = []
    for item in run.files("flex", ".flex.json"):
        metadata = run.json(f"flex/{item}.flex.json") or {}
        conformers = metadata.get("conformers", [])
        if not conformers:
            continue
        rmsd = np.percentile([conformer["rmsd_angstrom"] for conformer in conformers], (0, 25, 50, 75, 100))
        kept = sum(not conformer["accepted"] for conformer in conformers)
        lines.append(
            [
                item,
                str(len(conformers)),
                *(number(float(value), 1) for value in rmsd),
                str(metadata["rejected_draws"]),
                str(kept),
                f"{metadata['nodes']:,}",
                str(metadata["loose_nodes"]),
                str(metadata["zero_modes"]),
            ]
        )
    columns = ["template", "conformers", "least RMSD (Å)", "quarter", "median", "three quarters", "greatest"]
    columns += ["draws rejected", "kept though damaged", "nodes", "loose nodes", "zero modes"]
    return [Table(columns, lines, "Conformers: RMSD to their template")] if lines else []


def packing_section(run: Run) -> ReportSection | None:
    """Occupancy of every sample, pictures of the first ones."""
    if not run.placed:
        return None
    placed = {item: read_table(path, ParticleRow) for item, path in run.placed.items()}
    metadata = {item: read_sidecar(path) for item, path in run.placed.items()}
    asked = run.settings.tetris.distractors_per_template if run.settings else None
    lines = []
    for item, rows in placed.items():
        templates = sum(row.class_id > 0 for row in rows)
        ratio = (len(rows) - templates) / templates if templates else None
        lines.append(
            [
                item,
                str(len(rows)),
                str(templates),
                str(len(rows) - templates),
                number(ratio, 2),
                number(_percent(metadata[item].get("filled_fraction")), 1),
                number(_percent(metadata[item].get("filled_fraction_of_centres")), 1),
                number(metadata[item].get("protein_mg_per_ml"), 0),
                number(metadata[item].get("closest_approach_angstrom"), 2),
            ]
        )
    columns = [
        "sample",
        "molecules",
        "templates",
        "distractors",
        "distractors per template" + (f" (asked: {asked:g})" if asked is not None else ""),
        "box filled (%)",
        "filled where centres may be (%)",
        "protein (mg/mL)",
        "closest atoms of two molecules (Å)",
    ]
    pictures = (_packing_illustration(run, item, placed[item]) for item in list(placed)[:SAMPLES_SHOWN])
    blocks: list[Block] = [picture for picture in pictures if picture]
    used = [place for place in range(len(columns)) if any(line[place] != NOTHING for line in lines)]
    columns, lines, totals = [columns[k] for k in used], [[line[k] for k in used] for line in lines], _totals(lines)
    if len(lines) > 1:
        blocks.append(Table(columns, [[totals[k] for k in used]], "All samples (sums, means, and the closest of all)"))
    summary = f"Occupancy of each sample ({len(lines)})" if len(lines) > 1 else ""
    blocks.append(Table(columns, lines, "Occupancy", summary))
    species = Counter(row.species for rows in placed.values() for row in rows)
    role = {row.species: row.class_id > 0 for rows in placed.values() for row in rows}
    order = sorted(species, key=lambda name: (not role[name], -species[name], name))
    blocks.append(
        Table(
            ["molecule", "role", "placed"],
            [[name, "template" if role[name] else "distractor", str(species[name])] for name in order],
            "Molecules placed",
            f"Molecules placed, by kind ({len(order)})",
        )
    )
    return ReportSection("packing", "Packed samples", blocks)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _totals(lines: Sequence[Sequence[str]]) -> list[str]:
    count, templates, distractors = (sum(int(line[place]) for line in lines) for place in (1, 2, 3))

    def known(place: int) -> list[float]:
        return [float(line[place]) for line in lines if line[place] != NOTHING]

    def mean(place: int, digits: int) -> str:
        return f"{np.mean(known(place)):.{digits}f}" if known(place) else NOTHING

    ratio = number(distractors / templates if templates else None, 2)
    return [
        f"{len(lines)} samples",
        f"{count:,}",
        f"{templates:,}",
        f"{distractors:,}",
        ratio,
        mean(5, 1),
        mean(6, 1),
        mean(7, 0),
        number(min(known(8), default=None), 2),
    ]


def _packing_illustration(run: Run, item: str, rows: Sequence[ParticleRow]) -> Illustration | None:
    """The middle planes of a sample's instance labels, None where there are none."""
    labels = run.folder / f"label/{item}.instances.mrc"
    if not labels.is_file():
        return None
    instances, voxel = read_mrc(labels, memory_map=True)
    depth = [(count - 1) / 2 * voxel for count in instances.shape]
    xy, xz = cut(instances, voxel, "xy", depth[0]), cut(instances, voxel, "xz", depth[1])
    source = packing_figure(xy, xz, {row.particle: row.class_id for row in rows}, class_names(run) or {1: "template"})
    templates = sum(row.class_id > 0 for row in rows)
    text = f"{counted(templates, 'template')} and {counted(len(rows) - templates, 'distractor')}"
    caption = f"{text}. The two middle planes, each molecule drawn where its density passes the labels' threshold."
    return Illustration(source, f"{text} in two middle planes, coloured by class.", caption, f"Sample {item}")


def imaging_section(run: Run) -> ReportSection | None:
    """The imaging conditions: what they range over, and the table."""
    if not run.design:
        return None
    shown = _conditions(run.design)
    conditions = [
        [title, spread([float(getattr(row, name)) for row in run.design], digits)] for name, (title, digits) in shown.items()
    ]
    split = Counter(row.split for row in run.design)
    words = ", ".join(f"{split[name]} {name}" for name in ("train", "validation", "test") if split[name])
    lines = [
        [row.id, row.split, *(number(float(getattr(row, name)), digits) for name, (_, digits) in shown.items())]
        for row in run.design
    ]
    columns = ["tomogram", "split", *(title for title, _ in shown.values())]
    blocks: list[Block] = [
        Table(["condition", "values"], conditions, f"{counted(len(run.design), 'tomogram')}: {words}"),
        Table(columns, lines, "Design", f"Design: every tomogram ({len(lines)} rows)"),
    ]
    return ReportSection("imaging", "Imaging conditions", blocks)


def _conditions(rows: Sequence[DesignRow]) -> dict[str, tuple[str, int]]:
    """Title and decimals of each numeric condition of a design that is not at its default everywhere."""
    found = {}
    for name, field in DesignRow.model_fields.items():
        values = [getattr(row, name) for row in rows]
        numeric = all(isinstance(value, int | float) for value in values)
        if numeric and (field.is_required() or any(value != field.default for value in values)):
            found[name] = CONDITIONS.get(name, (name.replace("_", " "), 2))
    return found


def tilts_section(run: Run) -> ReportSection | None:
    """Zero tilt and the extremes of the series with the lowest and the highest dose."""
    series = run.files("simulate", ".tilts.mrc")
    if not series:
        return None
    rows = {row.id: row for row in run.design}
    by_dose = sorted(series, key=lambda item: (rows[item].total_dose_e_per_angstrom2 if item in rows else 0.0, item))
    chosen = [by_dose[0]] if len(by_dose) == 1 else [by_dose[0], by_dose[-1]]
    blocks: list[Block] = [_tilt_illustration(item, series[item], rows.get(item)) for item in chosen]
    return ReportSection("tilts", "Tilt series", blocks)


def _tilt_illustration(item: str, path: Path, row: DesignRow | None) -> Illustration:
    images, pixel = read_mrc(path, memory_map=True)
    angles_file = existing(path.with_name(f"{item}.tlt"))
    try:
        angles = [float(line) for line in angles_file.read_text().split()]
    except ValueError as error:
        raise BadInput(f"{angles_file}: not a list of angles ({error})") from None
    if len(angles) != len(images):
        raise BadInput(f"{angles_file}: {len(angles)} angles for {len(images)} images; one for each was expected")
    places = sorted({int(np.argmin(angles)), int(np.argmin(np.abs(angles))), int(np.argmax(angles))}, key=lambda k: angles[k])
    pictures = {k: Picture(np.asarray(images[k], dtype=np.float32), pixel, "xy", 0.0) for k in places}
    shown = [(angles[k], picture.smoothed(SMOOTHING_ANGSTROM).at_most(TILT_PIXELS)) for k, picture in pictures.items()]
    text = f"{counted(len(angles), 'image')}, {degrees(min(angles))} to {degrees(max(angles))}"
    if row is not None:
        text += f", {row.total_dose_e_per_angstrom2:.0f} e/Å² in all, defocus {row.defocus_um:.2f} µm"
        text += f", phase shift {row.phase_shift_deg:.0f}°" if row.phase_shift_deg else ""
    tilts = ", ".join(degrees(angles[k]) for k in places)
    caption = (
        f"{text}. Pixel {pixel:g} Å, tilt axis upright (y), protein dark. Smoothed with a Gaussian of {SMOOTHING_ANGSTROM / 10:g} nm, "
        "each image with grey values of its own."
    )
    return Illustration(tilt_figure(shown), f"Images of {item} at tilts {tilts}.", caption, f"Tilt series {item}")
