"""The command line: one command a process.  It parses and calls; the work is in the modules."""

import json
import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from template_learning.common.errors import UNREADABLE, BadInput, Fault, in_words
from template_learning.common.files import read_json
from template_learning.settings import SettingsSection, complaints

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Model = TypeVar("Model", bound=BaseModel)

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="JSON with this stage's settings; defaults without")]
Seed = Annotated[int, typer.Option(help="root seed of the run")]
Output = Annotated[Path, typer.Option(help="folder to write to")]
Identifier = Annotated[str, typer.Option("--id", help="id, the start of the output files' names")]
Library = Annotated[list[Path], typer.Option("--library", help="folder with a library.csv, or its parent; may be repeated")]
RowFile = Annotated[Path, typer.Option("--row", help="JSON with this tomogram's row of the design")]


def _model(path: Path | None, model: type[Model]) -> Model:
    """``model`` from a JSON file, or its defaults; bad values are one line each (exit code 2)."""
    if path is None:
        return model()
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        if issubclass(model, SettingsSection):
            raise BadInput(f"{path}: {complaints(error, model)}") from None
        lines = (f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{path}: " + "; ".join(lines)) from None


@app.command()
def flex(
    structure: Annotated[Path, typer.Argument(help="structure file or density map")],
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
    seed: Seed = 1,
    reading: Annotated[
        Path | None, typer.Option(help="JSON with assembly, or a map's resolution_angstrom, threshold, mass_dalton")
    ] = None,
) -> None:
    """Flex one template: all-atom conformers as <id>_c000.cif.gz ... and <id>.flex.json."""
    from template_learning.common.tables import MoleculeInput
    from template_learning.settings import FlexSettings
    from template_learning.stages.flex import flex_template

    flex_template(structure, identifier, _model(settings, FlexSettings), seed, output, _model(reading, MoleculeInput))


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="structure file, density map, or PDB id (fetched)")],
    identifier: Identifier,
    output: Output,
    assembly: Annotated[str | None, typer.Option(help="number of the biological assembly to build")] = None,
    resolution_angstrom: Annotated[
        float | None, typer.Option(min=0.1, max=1000, help="map: its resolution [twice the voxel size]")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="map: grey value that bounds the molecule [Otsu's]")] = None,
    mass_dalton: Annotated[
        float | None, typer.Option(min=1000.0, max=1e10, help="map: the molecule's mass [from the volume]")
    ] = None,
) -> None:
    """Clean a molecule, build its assembly, or turn a density map into pseudo-atoms: <id>.cif.gz."""
    from template_learning.common.tables import MoleculeInput
    from template_learning.structures.molecules import prepare_molecule

    reading = MoleculeInput(
        assembly=assembly, resolution_angstrom=resolution_angstrom, threshold=threshold, mass_dalton=mass_dalton
    )
    prepare_molecule(source, identifier, output, reading)


@app.command()
def distractors(
    folder: Annotated[Path, typer.Argument(help="structures to choose from, searched through")],
    output: Annotated[Path, typer.Option(help="the table to write: id, path, share")],
    count: Annotated[int, typer.Option(min=1, help="how many at most")] = 100,
    minimum_kilodalton: Annotated[float, typer.Option(min=0, max=1e6, help="lightest")] = 30.0,
    maximum_kilodalton: Annotated[float, typer.Option(min=0, max=1e6, help="heaviest")] = 1000.0,
    minimum_dissimilarity: Annotated[
        float, typer.Option(min=0, max=1, help="least relative difference in size or shape of any two")
    ] = 0.02,
    template: Annotated[list[Path] | None, typer.Option(help="structure to keep away from; may be repeated")] = None,
    by_mass: Annotated[bool, typer.Option("--by-mass", help="shares of equal mass instead of equal number")] = False,
) -> None:
    """Choose a set of distractors that differ in size and shape from a folder of structures."""
    from template_learning.structures.distractors import choose_distractors

    choose_distractors(
        folder,
        output,
        count=count,
        minimum_kilodalton=minimum_kilodalton,
        maximum_kilodalton=maximum_kilodalton,
        minimum_dissimilarity=minimum_dissimilarity,
        templates=template,
        share="mass" if by_mass else "equal",
    )


@app.command()
def volume(
    molecules: Annotated[Path, typer.Option(help="JSON list of {molecule, species, role, class_id, share, file}")],
    output: Output,
    settings: SettingsFile = None,
) -> None:
    """Turn structures into library entries: density, atoms and a row of library.csv each."""
    from template_learning.settings import VolumeSettings
    from template_learning.stages.volume import build_library

    build_library(molecules, _model(settings, VolumeSettings), output)


@app.command()
def design(
    output: Annotated[Path, typer.Option(help="the table to write")], settings: SettingsFile = None, seed: Seed = 1
) -> None:
    """Write the table of tomograms to simulate, one row each."""
    from template_learning.settings import DesignSettings
    from template_learning.stages.design import write_design

    write_design(_model(settings, DesignSettings), seed, output)


@app.command()
def tetris(library: Library, identifier: Identifier, output: Output, settings: SettingsFile = None, seed: Seed = 1) -> None:
    """Pack one sample: <id>.placed.csv."""
    from template_learning.settings import TetrisSettings
    from template_learning.stages.tetris import pack_sample

    pack_sample(library, identifier, _model(settings, TetrisSettings), seed, output)


@app.command()
def plan(
    library: Library,
    templates: Annotated[int | None, typer.Option(help="how many templates are wanted")] = None,
    settings: SettingsFile = None,
    seed: Seed = 1,
) -> None:
    """Predict what tetris will place, before the run, from two small packings: JSON on the screen."""
    from dataclasses import asdict

    from template_learning.packing.prediction import plan_sample
    from template_learning.settings import TetrisSettings

    print(json.dumps(asdict(plan_sample(library, _model(settings, TetrisSettings), seed, templates)), indent=2))


@app.command()
def simulate(
    output: Output,
    library: Annotated[
        list[Path] | None, typer.Option(help="folder with a library.csv, or its parent; may be repeated")
    ] = None,
    placed: Annotated[Path | None, typer.Option(help="table of placed molecules, its sidecar beside it")] = None,
    row: Annotated[Path | None, typer.Option(help="JSON with this tomogram's row of the design")] = None,
    settings: SettingsFile = None,
    seed: Seed = 1,
    waves: Annotated[
        Path | None, typer.Option(help="<id>.waves.npy of the same sample, imaged again with this row's optics and dose")
    ] = None,
    parakeet_config: Annotated[
        Path | None, typer.Option(help="run this Parakeet 0.6.8 configuration instead: optics.mrc, image.mrc, tilts.tlt")
    ] = None,
    structures: Annotated[
        Path | None, typer.Option(help="with --parakeet-config: folder with its structures (also looked for beside it)")
    ] = None,
    binning: Annotated[int, typer.Option(help="with --parakeet-config: images binned by so many detector pixels")] = 1,
    grain: Annotated[bool, typer.Option(help="with --parakeet-config: the ice's own grain")] = True,
) -> None:
    """Simulate one tilt series: <id>.tilts.mrc (sorted by angle) and <id>.tlt."""
    if parakeet_config is not None:
        from template_learning.simulation.parakeet_config import simulate_parakeet

        simulate_parakeet(parakeet_config, structures, binning, seed, output, grain=grain)
        return
    if not library or placed is None or row is None:
        raise BadInput("simulate: --library, --placed and --row are needed, or --parakeet-config")
    from template_learning.common.tables import DesignRow
    from template_learning.settings import SimulateCommandSettings
    from template_learning.stages.simulate import simulate_sample

    simulate_sample(placed, library, _model(row, DesignRow), _model(settings, SimulateCommandSettings), seed, output, waves)


@app.command()
def reconstruct(
    tilts: Annotated[Path, typer.Option(help="tilt series, protein dark, its sidecar beside it if there is one")],
    angles: Annotated[Path, typer.Option(help="tilt angles in degrees, one a line, in the series' order")],
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
    seed: Seed = 1,
) -> None:
    """Reconstruct one tomogram: <id>.mrc."""
    from template_learning.settings import ReconstructSettings
    from template_learning.stages.reconstruct import reconstruct_series

    reconstruct_series(tilts, angles, identifier, _model(settings, ReconstructSettings), output, seed)


@app.command()
def label(
    library: Library,
    placed: Annotated[Path, typer.Option(help="table of placed molecules, its sidecar beside it")],
    tomogram: Annotated[Path, typer.Option(help="the tomogram whose grid the labels take")],
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
) -> None:
    """Write one tomogram's truth: <id>.labels.mrc, <id>.instances.mrc and <id>.particles.csv."""
    from template_learning.settings import LabelSettings
    from template_learning.stages.label import label_sample

    label_sample(placed, library, tomogram, identifier, _model(settings, LabelSettings), output)


Design = Annotated[Path, typer.Option(help="table of tomograms with their split")]
Data = Annotated[Path, typer.Option(help="folder with <id>.mrc, <id>.labels.mrc and <id>.particles.csv of each row")]
ModelFile = Annotated[Path, typer.Option(help=".keras model")]
Without = Annotated[str, typer.Option(help="ids, joined by commas, of rows that could not be made: passed over")]
State = Annotated[
    Path | None, typer.Option("--state", help="folder that keeps the state to go on from after a kill [the output's]")
]


def _ids(joined: str) -> list[str]:
    return [one for one in joined.split(",") if one]


@app.command()
def train(
    design: Design,
    data: Data,
    output: Output,
    settings: SettingsFile = None,
    seed: Seed = 1,
    state: State = None,
    without: Without = "",
    start: Annotated[
        Path | None, typer.Option(help="trained model whose weights to begin with, instead of random ones")
    ] = None,
) -> None:
    """Train the network: trained.keras (best on validation), history.csv and the state to go on from."""
    from template_learning.settings import TrainSettings
    from template_learning.stages.train import train_network

    train_network(design, data, _model(settings, TrainSettings), seed, output, state, start, _ids(without))


@app.command()
def calibrate(
    model: ModelFile, design: Design, data: Data, output: Output, settings: SettingsFile = None, without: Without = ""
) -> None:
    """Choose the size threshold on the validation tomograms and put it into the model's card: model.keras."""
    from template_learning.settings import CalibrateSettings
    from template_learning.stages.calibrate import calibrate_model

    calibrate_model(model, design, data, _model(settings, CalibrateSettings), output, _ids(without))


@app.command()
def finetune(
    model: ModelFile,
    tomograms: Annotated[
        Path, typer.Option(help="CSV: id, path, annotations and, where known, voxel_size_angstrom; files relative to the table")
    ],
    output: Output,
    library: Annotated[
        list[Path] | None, typer.Option(help="for shapes as labels: folder with a library.csv, or its parent; may be repeated")
    ] = None,
    settings: SettingsFile = None,
    seed: Seed = 1,
    state: State = None,
) -> None:
    """Teach a model further on annotated tomograms, scored on held-out ones: finetuned.keras and finetuning.csv."""
    from template_learning.settings import FinetuneCommandSettings
    from template_learning.stages.finetune import finetune_model

    finetune_model(model, tomograms, _model(settings, FinetuneCommandSettings), seed, output, library or [], state)


@app.command()
def segment(
    model: ModelFile,
    tomogram: Annotated[Path, typer.Option(help="tomogram")],
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
    voxel_size_angstrom: Annotated[float | None, typer.Option(min=0.05, max=1000, help="instead of the header's")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="from SIMULATE: protein dark, whatever segment.contrast says of the user's")
    ] = False,
) -> None:
    """Segment one tomogram: <id>.segmentation.mrc (classes) and <id>.log_odds.mrc."""
    from template_learning.settings import SegmentSettings
    from template_learning.stages.segment import segment_tomogram

    chosen = _model(settings, SegmentSettings)
    if simulated:
        chosen = chosen.model_copy(update={"contrast": "protein_dark"})
    segment_tomogram(model, tomogram, identifier, chosen, output, voxel_size_angstrom)


@app.command()
def cluster(
    segmentation: Annotated[Path, typer.Option(help="class labels, the sidecar beside it")],
    log_odds: Annotated[Path, typer.Option(help="log-odds of the voxel's class")],
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
) -> None:
    """Turn one segmentation into picks: <id>.picks.csv."""
    from template_learning.settings import ClusterSettings
    from template_learning.stages.cluster import cluster_segmentation

    cluster_segmentation(segmentation, log_odds, identifier, _model(settings, ClusterSettings), output)


@app.command()
def match(
    tomogram: Annotated[Path, typer.Option(help="tomogram to search")],
    library: Library,
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
    tilt_facts: Annotated[
        Path | None,
        typer.Option(help="<id>.tilts.mrc.json of a simulated tomogram; without it the settings say how it was taken"),
    ] = None,
    contrast: Annotated[
        str, typer.Option(help="protein_dark, protein_bright, or auto: as SEGMENT found it, else by the grey values")
    ] = "protein_dark",
    segment_facts: Annotated[
        Path | None,
        typer.Option(help="<id>.segmentation.mrc.json of the same tomogram: what SEGMENT found, for --contrast auto"),
    ] = None,
    voxel_size_angstrom: Annotated[float | None, typer.Option(min=0.05, max=1000, help="instead of the header's")] = None,
) -> None:
    """Search one tomogram by template matching (pytme or pytom-match-pick): <id>.picks.csv and <id>.scores.mrc."""
    from template_learning.settings import MatchCommandSettings
    from template_learning.stages.match import match_tomogram

    if contrast not in ("auto", "protein_dark", "protein_bright"):
        raise BadInput(f"--contrast {contrast}: auto, protein_dark or protein_bright was expected")
    match_tomogram(
        tomogram,
        library,
        identifier,
        _model(settings, MatchCommandSettings),
        output,
        tilt_facts=tilt_facts,
        contrast=contrast,
        segment_facts=segment_facts,
        voxel_size_angstrom=voxel_size_angstrom,
    )


@app.command()
def evaluate(
    table: Annotated[Path, typer.Option(help="CSV: id, picks, truth, mask (optional); files relative to the table")],
    identifier: Identifier,
    output: Output,
    settings: SettingsFile = None,
) -> None:
    """Score picks against truth: <id>.evaluation.json, <id>.curve.csv and <id>.per_tomogram.csv."""
    from template_learning.settings import EvaluateSettings
    from template_learning.stages.evaluate import evaluate_picks

    evaluate_picks(table, identifier, _model(settings, EvaluateSettings), output)


@app.command()
def export(
    picks: Annotated[Path, typer.Option(help="<id>.picks.csv, its sidecar beside it")],
    identifier: Identifier,
    output: Output,
    segmentation: Annotated[Path | None, typer.Option(help="<id>.segmentation.mrc, for copick")] = None,
    settings: SettingsFile = None,
) -> None:
    """Write one tomogram's picks for other programs: RELION, copick, DeepFinder, IMOD, CSV."""
    from template_learning.settings import ExportSettings
    from template_learning.stages.export import export_picks

    export_picks(picks, identifier, _model(settings, ExportSettings), output, segmentation)


@app.command()
def copick_config(
    configs: Annotated[list[Path], typer.Argument(help="copick_config.json of each tomogram's export")],
    output: Annotated[Path, typer.Option(help="the copick_config.json to write")],
) -> None:
    """Merge the copick configurations of tomograms that were exported one by one: one project of them all."""
    from template_learning.export.copick import merge_configs

    merge_configs(configs, output)


@app.command()
def report(
    data: Annotated[Path, typer.Option(help="folder with the files of a run, as published or collected")],
    output: Annotated[Path, typer.Option(help="the HTML file to write")],
) -> None:
    """Write the report of a run: one self-contained HTML file."""
    from template_learning.stages.report import write_report

    write_report(data, output)


@app.command()
def check(
    request: Annotated[Path, typer.Argument(help="JSON: params, and the rows of the three input tables with their files")],
    output: Output,
) -> None:
    """Check parameters and input files before any work starts; write the normalised settings.json."""
    from template_learning.stages.check import check_run

    check_run(request, output)


@app.command()
def schema(
    write: Annotated[Path | None, typer.Option(help="repository folder to write the generated files to; else print")] = None,
) -> None:
    """Print the parameters' JSON schema, or write all that is generated from it."""
    from template_learning.pipeline.schema import generated_files, write_generated

    if write is None:
        print(generated_files(Path.cwd())["nextflow_schema.json"], end="")
    else:
        write_generated(write)


@app.command()
def crate(
    data: Annotated[Path, typer.Argument(help="folder with all files of a run, as they are published")],
    about: Annotated[Path, typer.Option(help="JSON with nextflow, revision and image_sha256")],
    output: Output,
    earlier: Annotated[Path | None, typer.Option(help="folder with sidecars of the earlier run that it goes on from")] = None,
) -> None:
    """List every published file and describe the run as an RO-Crate: index.json and ro-crate-metadata.json."""
    from template_learning.stages.crate import write_crate

    write_crate(data, about, output, earlier)


def main() -> None:
    """Run the command line; what goes wrong with files or for want of memory is one line, and its exit code says what it is.

    BadInput exits with 2, Fault with 3, and 137 is what is tried again with more memory.  Any other error is a mistake of this
    program, and shows where it is.
    """
    try:
        app()
    except (BadInput, Fault) as error:
        _end(error)
    except UNREADABLE as error:
        _end(in_words(error))
    except MemoryError as error:
        print(f"fault: not enough memory ({' '.join(str(error).split()) or 'no more said'})", file=sys.stderr)
        sys.exit(137)


def _end(error: BadInput | Fault) -> None:
    bad = isinstance(error, BadInput)
    print(f"{'error' if bad else 'fault'}: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2 if bad else 3)
