"""CHECK: parameters and input files, looked at before any work starts."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from template_learning.common.errors import UNREADABLE, BadInput, first_problem, in_words
from template_learning.common.files import checked_id, read_json, read_rows, read_table, replacing
from template_learning.common.geometry import Grid
from template_learning.common.log import listening, tell
from template_learning.common.mrc import read_mask, read_tomogram
from template_learning.common.provenance import sha256_of, write_json
from template_learning.common.stages import ORDER
from template_learning.common.tables import DesignRow, MoleculeInput, ParticleRow
from template_learning.learning.fit import check_fits, check_size, doubts
from template_learning.learning.model_card import ModelCard, check_whole, read_card
from template_learning.packing.limits import (
    check_assemblies,
    check_fits_box,
    check_ice_thickness,
    packed_thickness_angstrom,
)
from template_learning.picking.annotations import check_annotations, read_annotations
from template_learning.picking.selection import check_expected_f1, check_segments, segments_by
from template_learning.pipeline.earlier_results import Inputs, check_enough, check_unchanged
from template_learning.pipeline.identifiers import check_identifiers
from template_learning.pipeline.sizes import check_sizes
from template_learning.pipeline.unused import Given, stages_of, unused
from template_learning.settings import PLAIN, Settings, complaints, flat
from template_learning.simulation.parakeet import NOT_MODELLED, check_asked
from template_learning.stages.design import design_rows
from template_learning.structures.molecules import PDB_ID, Checked, check_molecule

FLEXED = 1.1
"""A conformer's length at most, to its template's: room that is left for it."""


class _InputRow(BaseModel):
    """A row of an input table as the pipeline read it: ``file`` is where it was staged, none where there is no file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str
    path: str = Field(description="as the user wrote it, for messages")
    file: Path | None = None
    instead: str | None = Field(default=None, description="what lies in a file's place")


class StructureInput(_InputRow, MoleculeInput):
    """A template or distractor: its file, and how it is read."""

    class_name: str = Field(default="target", alias="class")
    share: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)

    def reading(self) -> MoleculeInput:
        """How the file is read."""
        return MoleculeInput(**self.model_dump(include=set(MoleculeInput.model_fields)))


class TomogramInput(_InputRow):
    """An experimental tomogram, with what is known about it."""

    annotations: str | None = None
    annotations_file: Path | None = None
    mask: str | None = None
    mask_file: Path | None = None
    voxel_size_angstrom: float | None = Field(default=None, gt=0, allow_inf_nan=False)


def check_settings(params: Mapping[str, Any]) -> Settings:
    """Settings from Nextflow's parameters.

    Raises BadInput that names each wrong parameter, its value and what is allowed, or its present name.
    """
    try:
        return Settings.model_validate(params)
    except ValidationError as error:
        raise BadInput(complaints(error, Settings)) from None


def check_run(request: Path, output: Path) -> None:
    """Check a request and write what follows from it to ``output``.

    ``settings.json`` has every parameter, normalised; ``stage_settings.json`` what the tasks of each stage are given of them;
    ``inputs.json`` the rows with class ids, as ``notes`` what was doubted, line by line, and where joined presets differ;
    ``design.csv`` the user's design table, if there is one, in plain CSV.

    The request is JSON with ``params``, and lists ``templates``, ``distractors`` and ``tomograms`` of rows whose
    ``file`` is relative to the request; ``tables`` (parameter -> file) are the tables as the user wrote them; ``earlier`` says
    of ``from_results`` whether it ``exists``, and the ``files`` and the ``index`` that the run takes.  Raises BadInput with one
    line.
    """
    content = read_json(request)
    with listening() as heard:
        answer, settings, design = _checked(content, request.parent)
    notes = [_as_given(line, content, request.parent) for line in dict.fromkeys(heard)]
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "settings.json", settings.model_dump(mode="json"))
    write_json(
        output / "stage_settings.json",
        {
            "seed": settings.seed,
            "minimum_fraction_left": settings.minimum_fraction_left,
            "groups": list(settings.mixture()),
            **settings.stage_settings(),
        },
    )
    if design is not None:
        with replacing(output / "design.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, lineterminator="\n").writerows(design)
    write_json(
        output / "inputs.json", {**answer, "notes": notes, "checked_at": datetime.now(UTC).isoformat(timespec="seconds")}
    )


def _checked(content: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], Settings, list[list[str]] | None]:
    """What ``inputs.json`` has of a request but for its notes, the settings, and the cells of the user's design table."""
    settings = check_settings(content["params"])
    for name, table in content.get("tables", {}).items():
        _named(
            str(content["params"].get(name, table)), folder / table, lambda path, name=name: _check_table(path, content[name])
        )
    templates = _rows(StructureInput, content.get("templates", []), "templates", settings)
    distractors = _rows(StructureInput, content.get("distractors", []), "distractors", settings)
    tomograms = _rows(TomogramInput, content.get("tomograms", []), "tomograms", settings)
    _check_order(settings, bool(templates), bool(tomograms))
    mixture = settings.mixture()
    for name, one in mixture.items():
        with _in_group(name):
            _check_engines(one)
            _check_pixel(one)
            _check_room(one)
            _check_ice(one)
    _check_unique([row.id for row in templates + distractors], "templates and distractors")
    _check_unique([row.id for row in tomograms], "tomograms")
    earlier = _earlier(content, folder, settings)
    design, cells = _design(content, folder, settings, earlier)
    _check_identifiers(settings, templates, distractors, tomograms, design)
    _check_training_rows(settings, design)
    if settings.from_results is None or content.get("earlier") is not None:
        inputs = Inputs(
            templates=[row.id for row in templates],
            tomograms=[row.id for row in tomograms],
            annotated=[row.id for row in tomograms if row.annotations is not None],
        )
        check_enough(settings, earlier, design, inputs)
    taken = _check_unchanged(content, folder, settings, earlier)
    flexed = settings.start_at == "flex" and settings.model is None
    modes = settings.flex.modes if flexed else 0
    targets = [(row, _check_structure(row, folder, settings, modes)) for row in templates]
    _check_one_role(targets, [(row, _check_structure(row, folder, settings, 0)) for row in distractors])
    doubted = _doubted_sizes(mixture, [one.diameter_angstrom for _, one in targets])
    if templates and settings.from_results is None:
        species = {row.id for row in templates + distractors}
        for name, one in mixture.items():
            with _in_group(name):
                check_assemblies(one.tetris, one.volume.voxel_size_angstrom, species)
    card = None
    for line in doubted:
        tell(line)
    if settings.model is not None and content.get("model_file"):
        card = _check_model(settings.model, folder / content["model_file"], settings)
    shown, whose = (card, "the model's") if card is not None else (_to_be_trained(settings, templates), "this run's")
    annotated = [_check_tomogram(tomogram, folder, settings, shown, whose) for tomogram in tomograms]
    _check_shared_annotations(tomograms, annotated)
    _check_taught(settings, annotated)
    _tell_of_same_files(folder, tomograms)
    given = Given(tomograms=bool(tomograms), annotations=any(row.annotations for row in tomograms))
    _tell_of_unused(settings, card, given, content.get("presets", {}))
    classes = {name: number for number, name in enumerate(sorted({row.class_name for row in templates}), start=1)}
    number = len(classes) or len(card.classes if card is not None else ())
    if number and len(settings.export.class_names) > number:
        tell(f"export.class_names: {len(settings.export.class_names)} names for {number} class(es); the last are not used")
    if classes and not settings.export.class_names:
        settings.export = settings.export.model_copy(update={"class_names": list(classes)})
    shared = preset_origins(content.get("presets", {}), settings)
    for name, held in shared.items():
        values = ", ".join(f"{preset} has {value!r}" for preset, value in held["presets"].items())
        tell(f"parameter {name}: {values}; this run has {held['value']!r}")
    answer = {
        "templates": [_plain(row, "template", classes[row.class_name]) for row in templates],
        "distractors": [_plain(row, "distractor", 0) for row in distractors],
        "tomograms": [{"id": row.id, "voxel_size_angstrom": row.voxel_size_angstrom} for row in tomograms],
        "presets": {"joined": list(content.get("presets", {})), "differ": shared},
        "files": [*_checksums(folder, settings, content, templates, distractors, tomograms), *taken],
    }
    return answer, settings, cells


def _earlier(content: Mapping[str, Any], folder: Path, settings: Settings) -> dict[str, Path | None]:
    """The files that the run takes from earlier results: path below their folder -> where it was staged, None for a link to nothing."""
    earlier = content.get("earlier") or {}
    if earlier.get("exists") is False:
        raise BadInput(f"parameter from_results = {settings.from_results!r}: no such folder")
    return {str(one["path"]): folder / one["file"] if one.get("file") else None for one in earlier.get("files", [])}


def _check_unchanged(
    content: Mapping[str, Any], folder: Path, settings: Settings, earlier: Mapping[str, Path | None]
) -> list[dict[str, Any]]:
    if settings.from_results is None:
        return []
    index = content["earlier"].get("index") if content.get("earlier") else None
    results = settings.from_results.rstrip("/")
    found = check_unchanged(results, earlier, folder / index if index else None)
    return [{**one, "role": "earlier result", "id": one["path"], "path": f"{results}/{one['path']}"} for one in found]


def _design(
    content: Mapping[str, Any], folder: Path, settings: Settings, earlier: Mapping[str, Path | None]
) -> tuple[list[DesignRow] | None, list[list[str]] | None]:
    """The rows of the tomograms to simulate, given, drawn anew or of the earlier run, None without any; the given table's cells."""
    if settings.design_table is not None:
        table = folder / content.get("design_table_file", settings.design_table)
        rows = _named(settings.design_table, table, lambda path: read_table(path, DesignRow))
        if not rows:
            raise BadInput(f"{settings.design_table}: a header and no rows; one row a tomogram was expected")
        _check_unique([checked_id(row.id) for row in rows], settings.design_table)
        groups = list(settings.mixture())
        unknown = sorted({row.group for row in rows} - set(groups))
        if unknown:
            raise BadInput(
                f"{settings.design_table}: the group {unknown[0]!r}, of which design.groups says nothing; {', '.join(groups)} were expected"
            )
        columns, lines = read_rows(table)
        return rows, [columns, *([cells[column] for column in columns] for _, cells in lines)]
    if "design" in stages_of(settings):
        return design_rows(settings.design, settings.seed), None
    table_before = earlier.get("design/design.csv")
    return (None if table_before is None else read_table(table_before, DesignRow)), None


def _check_identifiers(
    settings: Settings,
    templates: Sequence[StructureInput],
    distractors: Sequence[StructureInput],
    tomograms: Sequence[TomogramInput],
    design: Sequence[DesignRow] | None,
) -> None:
    of_design = f"the simulated tomogram of {settings.design_table or 'the design'}"
    named = [(row.id, of_design) for row in design or ()]
    named += [(row.id, f"the template {row.path}") for row in templates]
    named += [(row.id, f"the distractor {row.path}") for row in distractors]
    named += [(row.id, f"the tomogram {row.path}") for row in tomograms]
    check_identifiers(named, [row.id for row in templates])


def _check_training_rows(settings: Settings, design: Sequence[DesignRow] | None) -> None:
    """Refuse a design that leaves nothing to learn, before anything is simulated for it."""
    runs = stages_of(settings)
    splits = {row.split for row in design or ()}
    enough: set[str] = {"train"} if "train" in runs else {"train", "validation"}
    if design is not None and runs & {"train", "calibrate"} and not splits & enough:
        where = settings.design_table or "the design"
        raise BadInput(
            f"{where}: no row has split = {' or '.join(sorted(enough))}, and {'TRAIN' if 'train' in runs else 'CALIBRATE'} is to run"
        )


def _as_given(line: str, content: Mapping[str, Any], folder: Path) -> str:
    """A line with the users' own paths in place of those where files were staged."""
    for row in [row for table in ("templates", "distractors", "tomograms") for row in content.get(table, [])]:
        for column, path in (("file", "path"), ("annotations_file", "annotations"), ("mask_file", "mask")):
            if row.get(column):
                line = line.replace(str(folder / row[column]), str(row[path]))
    for name, staged in {
        **content.get("tables", {}),
        **{name: content.get(f"{name}_file") for name in ("design_table", "model")},
    }.items():
        if staged:
            line = line.replace(str(folder / staged), str(content["params"].get(name)))
    return line


def preset_origins(presets: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Parameters that two or more of a run's presets (name to YAML) give different values: each one's, and what the run has."""
    given = {name: flat(yaml.safe_load(text)) for name, text in presets.items()}
    holds = flat(settings.model_dump(mode="json"))
    origins: dict[str, Any] = {}
    for parameter in sorted({one for values in given.values() for one in values}):
        values = {name: found[parameter] for name, found in given.items() if parameter in found}
        if any(value != next(iter(values.values())) for value in values.values()):
            origins[parameter] = {"presets": values, "value": holds.get(parameter)}
    return origins


def _checksums(
    folder: Path,
    settings: Settings,
    content: Mapping[str, Any],
    templates: Sequence[StructureInput],
    distractors: Sequence[StructureInput],
    tomograms: Sequence[TomogramInput],
) -> Iterator[dict[str, Any]]:
    """Every file that was given: its role, id, path as given, size and SHA-256."""
    given = [("template", row.id, row.path, row.file) for row in templates]
    given += [("distractor", row.id, row.path, row.file) for row in distractors]
    for row in tomograms:
        given += [
            ("tomogram", row.id, row.path, row.file),
            ("annotations", row.id, row.annotations or "", row.annotations_file),
        ]
        given += [("mask", row.id, row.mask or "", row.mask_file)]
    given += [("design table", "design", settings.design_table or "", content.get("design_table_file") or None)]
    given += [("model", "model", settings.model or "", content.get("model_file") or None)]
    for role, item, path, file in given:
        if file is not None and (folder / file).is_file():
            size = (folder / file).stat().st_size
            yield {"role": role, "id": item, "path": path, "bytes": size, "sha256": sha256_of(folder / file)}


def _plain(row: StructureInput, role: Literal["template", "distractor"], class_id: int) -> dict[str, Any]:
    name = row.class_name if role == "template" else ""
    reading = row.reading().model_dump(exclude_none=True)
    return {"id": row.id, "role": role, "class_name": name, "class_id": class_id, "share": row.share, "reading": reading}


def _rows(model: type[Any], rows: Sequence[Mapping[str, Any]], table: str, settings: Settings) -> list[Any]:
    checked = []
    for number, row in enumerate(rows, start=1):
        cells = {name: value for name, value in row.items() if value not in (None, "")}
        try:
            checked.append(model.model_validate(cells))
        except ValidationError as error:
            column, problem = first_problem(error)
            if error.errors()[0]["type"] == "extra_forbidden":
                names = [field.alias or name for name, field in model.model_fields.items() if not name.endswith("file")]
                problem = f"there is no such column; allowed: {', '.join(names)}"
            raise BadInput(f"{table}: row {number}, column {column!r}: {problem}") from None
        checked_id(checked[-1].id, f"{table}: id")
        if isinstance(checked[-1], StructureInput):
            checked_id(checked[-1].class_name, f"{table}: class")
        if checked[-1].file is None:
            problem = (
                f"{checked[-1].path}: {checked[-1].instead}" if checked[-1].instead else _missing(checked[-1].path, settings)
            )
            raise BadInput(f"{problem} ({table}, id {checked[-1].id})")
    return checked


def _missing(path: str, settings: Settings) -> str:
    entry = PDB_ID.fullmatch(path) is not None
    if path.lower().startswith("pdb:"):
        if not entry:
            return f"{path}: not an id of the Protein Data Bank; four characters as in pdb:1abc were expected"
        address = settings.pdb_address.replace("{id}", path[-4:].lower())
        return f"{path}: no such entry, or no network: nothing could be fetched from {address}"
    if "://" in path:
        return f"{path}: no such file, or no network"
    return f"{path}: no such file" + (f"; pdb:{path} would fetch the entry of that id" if entry else "")


def _check_unique(ids: Sequence[str], where: str) -> None:
    doubled = sorted({one for one in ids if ids.count(one) > 1})
    if doubled:
        raise BadInput(f"{where}: the id {doubled[0]!r} stands there twice; each id once was expected")


@contextmanager
def _in_group(name: str) -> Iterator[None]:
    """Complaints of what is checked inside name the group, where the design is a mixture."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"design.groups.{name}: {error}" if name != PLAIN else str(error)) from None


def _check_pixel(settings: Settings) -> None:
    """Refuse a pixel that RECONSTRUCT would refuse after all simulations."""
    pixel, voxel = settings.simulate.pixel_size_angstrom, settings.reconstruct.voxel_size_angstrom
    if {"simulate", "reconstruct"} <= stages_of(settings) and pixel is not None and voxel < pixel * 0.999:
        raise BadInput(
            f"parameter simulate.pixel_size_angstrom = {pixel:g}: at most reconstruct.voxel_size_angstrom, {voxel:g}, was expected"
        )


def _check_ice(settings: Settings) -> None:
    """Refuse ice that is thinner than what is packed in it."""
    least = min(settings.design.ice_thickness_angstrom, default=None)
    if "tetris" in stages_of(settings) and least is not None:
        check_ice_thickness(least, packed_thickness_angstrom(settings.tetris, settings.volume.voxel_size_angstrom))


def _doubted_sizes(mixture: Mapping[str, Settings], diameter_angstrom: Sequence[float]) -> list[str]:
    """What is doubted of the sizes, a line each, which names the group unless it holds for all of them."""
    doubted: dict[str, list[str]] = {}
    for name, one in mixture.items():
        with _in_group(name):
            for line in check_sizes(one, stages_of(one), diameter_angstrom):
                doubted.setdefault(f"parameter {line}", []).append(name)
    return [
        whole
        for line, names in doubted.items()
        for whole in ([line] if len(names) == len(mixture) else [f"design.groups.{name}: {line}" for name in names])
    ]


def _check_engines(settings: Settings) -> None:
    if settings.simulate.engine == "parakeet":
        levels = {**dict(settings.design), **dict(settings.design.nuisances)}
        check_asked({name: max(map(abs, levels[name]), default=0.0) for name in NOT_MODELLED}, settings.simulate)


def _check_room(settings: Settings) -> None:
    """Refuse margins that leave no place for a molecule's centre, where this run packs."""
    tetris = settings.tetris
    if "tetris" not in stages_of(settings):
        return
    edge = min(tetris.shape_voxels) * settings.volume.voxel_size_angstrom
    voxel = tetris.packing_voxel_size_angstrom or settings.volume.voxel_size_angstrom
    if 2 * math.ceil(tetris.centre_margin_angstrom / voxel - 1e-6) >= int(edge / voxel + 1e-6):
        raise BadInput(
            f"parameter tetris.centre_margin_angstrom = {tetris.centre_margin_angstrom:g}: no room for a centre in a box whose "
            f"shortest edge is {edge:.0f} Å"
        )


def _check_order(settings: Settings, templates: bool, tomograms: bool) -> None:
    start, stop = ORDER.index(settings.start_at), ORDER.index(settings.stop_after)
    if start > stop:
        raise BadInput(f"parameter start_at = {settings.start_at!r} lies after stop_after = {settings.stop_after!r}")
    if settings.start_at == "finetune" and settings.finetune.labels == "shape" and settings.from_results is None:
        raise BadInput("parameter finetune.labels = 'shape': the templates come from --from_results, which was not given")
    if settings.model is not None and settings.start_at not in ("flex", "finetune", "segment"):
        raise BadInput(f"parameter start_at = {settings.start_at!r}: with --model a run starts at 'segment' or 'finetune'")
    if settings.model is None and start <= ORDER.index("volume") and not templates and settings.from_results is None:
        raise BadInput("parameter templates: none given; structures of the target (a glob or a CSV) were expected")
    if settings.model is not None and not tomograms and settings.from_results is None:
        raise BadInput("parameter tomograms: none given; with --model, tomograms to pick in were expected")
    if start > 0 and settings.from_results is None and settings.model is None:
        raise BadInput(f"parameter start_at = {settings.start_at!r}: --from_results with an earlier run's results was expected")
    if settings.start_at == "match" and not settings.match.run:
        raise BadInput("parameter start_at = 'match': --match.run true was expected with it")
    by_expected_f1 = settings.cluster.chosen_by == "expected_f1" and not settings.cluster.has_thresholds
    calibrated = settings.model is None and start <= ORDER.index("calibrate") and stop >= ORDER.index("cluster")
    if by_expected_f1 and calibrated and settings.evaluate.rank != "score":  # CLUSTER refuses it too, but after the training
        raise BadInput("parameter cluster.chosen_by = 'expected_f1': evaluate.rank = 'score' was expected with it")
    if settings.match.run and settings.model is not None and settings.from_results is None:
        raise BadInput(
            "parameter match.run = true: with --model, --from_results with the run that has the templates was expected"
        )


Molecules = Sequence[tuple[StructureInput, Checked]]


def _check_one_role(targets: Molecules, distractors: Molecules) -> None:
    """Refuse one molecule under two ids as target and distractor."""
    known = {molecule.fingerprint: row for row, molecule in targets}
    for row, molecule in distractors:
        if molecule.fingerprint in known:
            other = known[molecule.fingerprint]
            raise BadInput(
                f"{row.path}: the distractor {row.id!r} is the same molecule as the template {other.id!r} ({other.path}); "
                "another was expected"
            )


def _check_structure(row: StructureInput, folder: Path, settings: Settings, modes: int) -> Checked:
    """What is known of the molecule."""
    assert row.file is not None
    checked: Checked = _named(row.path, folder / row.file, lambda path: check_molecule(path, row.reading()))
    for note in checked.notes:
        tell(f"{row.id}: {note}", routine=True)  # VOLUME and FLEX write it into their sidecars
    if modes and checked.nodes is not None and (checked.nodes < 3 or 3 * checked.nodes - 6 < modes):
        raise BadInput(f"{row.path}: {checked.nodes} atoms named CA or P; too few for the {modes} modes of FLEX")
    diameter = checked.diameter_angstrom * (FLEXED if modes else 1.0)
    for name, one in settings.mixture().items():
        try:
            with _in_group(name):
                check_fits_box(one.tetris, one.volume.voxel_size_angstrom, one.volume.resolution_angstrom, diameter)
        except BadInput as error:
            raise BadInput(f"{row.path}: {error}") from None
    return checked


def _check_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an input table that people's reader (``read_rows``) reads otherwise than the pipeline did, cell by cell."""
    columns, found = read_rows(path)
    if not found:
        raise BadInput(f"{path}: a header and no rows; one row an input was expected")
    staged = sorted({"file", "annotations_file", "mask_file", "instead", "files"} & set(columns))
    if staged:
        raise BadInput(
            f"{path}: column {staged[0]!r}: the pipeline's own; another name was expected (files stand in path, annotations, mask)"
        )
    repair = "save it as UTF-8 with commas between its cells"
    if len(found) != len(rows):
        raise BadInput(f"{path}: {len(found)} rows, of which the pipeline reads {len(rows)}; {repair}")
    for (line, cells), theirs in zip(found, rows, strict=True):
        for column in columns:
            if cells[column] != str(theirs.get(column) or "").strip():
                raise BadInput(
                    f"{path}: line {line}, column {column!r}: {cells[column]!r}, which the pipeline reads as {theirs.get(column)!r}; {repair}"
                )


def _check_taught(settings: Settings, annotated: Sequence[Sequence[ParticleRow]]) -> None:
    """Refuse a fine-tuning without something to teach, and without a tomogram to test on."""
    if settings.start_at != "finetune":
        return
    with_some = [found for found in annotated if found]
    if len(with_some) < 2:
        raise BadInput(
            f"parameter tomograms: {len(with_some)} of {len(annotated)} tomograms have annotations; at least two were expected for "
            "start_at = 'finetune', one of them to test on"
        )
    if not any(one.class_id for found in with_some for one in found):
        raise BadInput("parameter tomograms: no annotation of a class above 0; something to teach was expected")


def _tell_of_same_files(folder: Path, rows: Sequence[TomogramInput]) -> None:
    """Say where one tomogram is there under two ids: scores on held-out ones are worth nothing then."""
    known: dict[tuple[int, bytes], str] = {}
    for row in rows:
        assert row.file is not None
        path = folder / row.file
        size = path.stat().st_size
        with path.open("rb") as handle:
            parts = [handle.seek(place) and handle.read(65536) for place in (size // 4, size // 2, size - min(size, 65536))]
        other = known.setdefault((size, b"".join(part or b"" for part in parts)), row.id)
        if other != row.id:
            tell(f"{row.path}: the same tomogram as that of {other!r}, under the id {row.id!r}")


def _check_shared_annotations(rows: Sequence[TomogramInput], particles: Sequence[Sequence[ParticleRow]]) -> None:
    """Refuse one file whose same rows are taken for two tomograms, as nothing in it says whose they are."""
    known: dict[tuple[str | None, str], str] = {}
    for row, found in zip(rows, particles, strict=True):
        if found:
            key = (row.annotations, repr([(one.x_angstrom, one.y_angstrom, one.z_angstrom) for one in found]))
            other = known.setdefault(key, row.id)
            if other != row.id:
                raise BadInput(
                    f"{row.annotations}: the same {len(found)} annotations for {other!r} and {row.id!r}; a column that names the "
                    "tomogram (tomogram, rlnTomoName), or a file each, was expected"
                )


def _to_be_trained(settings: Settings, templates: Sequence[StructureInput]) -> ModelCard | None:
    """What the model that this run trains will be shown; none where it trains none."""
    if settings.model is not None or "train" not in stages_of(settings) or not templates:
        return None
    classes = sorted({row.class_name for row in templates})
    return ModelCard(
        voxel_size_angstrom=settings.reconstruct.voxel_size_angstrom,
        classes={number: [name] for number, name in enumerate(classes, start=1)},
        filters=settings.train.filters,
        patch_voxels=settings.train.patch_voxels,
    )


def _check_tomogram(
    row: TomogramInput, folder: Path, settings: Settings, card: ModelCard | None, whose: str
) -> Sequence[ParticleRow]:
    """The tomogram's annotations."""
    assert row.file is not None
    needs_header = row.voxel_size_angstrom is None
    data, voxel_size = _named(row.path, folder / row.file, lambda path: read_tomogram(path, need_voxel_size=needs_header))
    grid = Grid(shape=data.shape, voxel_size_angstrom=row.voxel_size_angstrom or voxel_size)
    check_size(grid.shape, row.path)
    if card is not None:
        check_fits(grid, card, row.path, whose)
    for doubt in doubts(
        data,
        grid,
        card,
        header_angstrom=voxel_size,
        size_given=not needs_header,
        contrast=settings.segment.contrast,
        whose=whose,
    ):
        tell(f"{row.path}: {doubt}")
    del data
    for kind, path, file in (("annotations", row.annotations, row.annotations_file), ("mask", row.mask, row.mask_file)):
        if path is not None and file is None:
            raise BadInput(f"{path}: no such file (tomograms, {kind} of {row.id})")
    if settings.cluster.radius_voxels > max(grid.shape) / 2:
        tell(
            f"{row.path}: cluster.radius_voxels = {settings.cluster.radius_voxels:g}, of a tomogram of {max(grid.shape)} voxels: all of it is one pick"
        )
    if row.mask is not None and row.mask_file is not None:
        _named(row.mask, folder / row.mask_file, lambda path: read_mask(path, grid))
    if row.annotations is not None and row.annotations_file is not None:
        found: list[ParticleRow] = _named(
            row.annotations, folder / row.annotations_file, lambda path: read_annotations(path, row.id, grid)
        )
        _named(row.annotations, folder / row.annotations_file, lambda path: check_annotations(found, grid, path))
        known = card.classes if card is not None else {}
        unknown = sorted({one.class_id for one in found} - {0, *known}) if known else []
        if unknown and settings.start_at == "finetune":
            raise BadInput(f"{row.annotations}: class {unknown[0]}; the model knows {', '.join(map(str, known))}")
        if unknown:
            tell(f"{row.annotations}: class {unknown[0]}, of which no pick can be; {whose} are {', '.join(map(str, known))}")
        return found
    return []


def _check_model(path: str, file: Path, settings: Settings) -> ModelCard:
    card: ModelCard = _named(path, file, read_card)
    _named(path, file, check_whole)
    if settings.start_at == "finetune" or settings.cluster.has_thresholds:
        return card
    check_segments(
        card.segments_by, segments_by(settings.segment.probability_threshold, settings.cluster), f"{path}: its threshold"
    )
    if settings.cluster.chosen_by == "expected_f1":
        check_expected_f1(card.score_probability, f"{path}: parameter")
    return card


def _tell_of_unused(settings: Settings, card: ModelCard | None, given: Given, presets: Mapping[str, str]) -> None:
    """Say which parameters were given that no stage of this run looks at."""
    voxel = settings.reconstruct.voxel_size_angstrom
    if card is not None and voxel not in (Settings().reconstruct.voxel_size_angstrom, card.voxel_size_angstrom):
        tell(
            f"parameter reconstruct.voxel_size_angstrom = {voxel:g}: not used with --model, which has voxels of"
            f" {card.voxel_size_angstrom:g} Å; tomograms are brought to those"
        )
    taught = {name for phase in settings.train.phases for name in phase.groups or settings.design.groups}
    untaught = [name for name in settings.design.groups if settings.train.phases and name not in taught]
    if untaught:
        tell(f"design.groups.{untaught[0]}: in no phase of train.phases, so that no network is taught its tomograms")
    told = {"reconstruct.voxel_size_angstrom"} if card is not None else set()
    for line in unused(settings, given, [yaml.safe_load(text) or {} for text in presets.values()], told):
        tell(line)


def _named(path: str, staged: Path, read: Any) -> Any:
    """``read(staged)``, with the user's own path in a complaint instead of the staged one."""
    try:
        return read(staged)
    except UNREADABLE as error:
        told = in_words(error, staged)
        raise type(told)(str(told).replace(str(staged), path)) from None
    except BadInput as error:
        raise BadInput(str(error).replace(str(staged), path)) from None
