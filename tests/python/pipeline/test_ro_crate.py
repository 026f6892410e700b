import hashlib
import json
import shutil
import warnings
from pathlib import Path

import pytest
from template_learning.common.errors import BadInput
from template_learning.common.provenance import write_json, write_sidecar
from template_learning.pipeline.ro_crate import CRATE
from template_learning.stages.check import check_run
from template_learning.stages.crate import write_crate

DEMO = Path(__file__).parents[3] / "data/demo"
PUBLISHED = [
    "check/settings.json",
    "design/design.csv",
    "design/design.csv.json",
    "tetris/t001.placed.csv",
    "index.json",
    CRATE,
]


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A run as CRATE collects it: CHECK's real answer, two sidecars of an image, three of another."""
    shutil.copy(DEMO / "templates/7pex.cif.gz", tmp_path / "t.cif.gz")
    request = {
        "params": {"seed": 7, "flex": {"modes": 9}},
        "templates": [{"id": "7pex", "path": "my structures/t.cif.gz", "file": "t.cif.gz"}],
    }
    write_json(tmp_path / "request.json", request)
    check_run(tmp_path / "request.json", tmp_path / "run/check")
    for image, path, stage in (
        ("/images/native-0.1.0.sif", "design/design.csv", "design"),
        ("/images/native-0.1.0.sif", "label/t001.labels.mrc", "label"),
        ("place/tetris@sha256:" + "b" * 64, "tetris/t001.placed.csv", "tetris"),
    ):
        monkeypatch.setenv("TEMPLATE_LEARNING_IMAGE", image)
        write_sidecar(tmp_path / "run" / path, stage=stage, item="t001", seed=None if stage == "label" else 7, settings={})
    programs = {"program": "Parakeet", "program_version": "0.6.8", "multem_version": "0.4.1"}
    write_sidecar(tmp_path / "run/simulate/t001.tilts.mrc", stage="simulate", item="t001", seed=7, settings={}, **programs)
    write_sidecar(
        tmp_path / "run/reconstruct/t001.mrc", stage="reconstruct", item="t001", seed=7, settings={}, program="native"
    )
    for name in PUBLISHED:
        if name not in ("index.json", CRATE) and not (tmp_path / "run" / name).exists():
            (tmp_path / "run" / name).write_text("id\n")
    about = {"nextflow": "25.04.4", "revision": "f" * 40, "image_sha256": {"native-0.1.0.sif": "a" * 64, "other.sif": "c" * 64}}
    write_json(tmp_path / "about.json", about)
    return tmp_path


@pytest.fixture
def crate(run_folder):
    write_crate(run_folder / "run", run_folder / "about.json", run_folder)
    return {entity["@id"]: entity for entity in json.loads((run_folder / CRATE).read_text())["@graph"]}


def references(value):
    if isinstance(value, dict):
        yield from [value["@id"]] if set(value) == {"@id"} else (one for inner in value.values() for one in references(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_graph_is_flat_and_every_reference_is_in_it_or_on_the_web(crate, run_folder):
    entities = json.loads((run_folder / CRATE).read_text())["@graph"]
    assert len(entities) == len(crate), "an @id stands twice"
    for entity in entities:
        assert entity["@type"]
        for name in set(references([value for key, value in entity.items() if key != "@id"])):
            assert name in crate or name.startswith(("http://", "https://")), name
    assert crate[CRATE]["about"] == {"@id": "./"}
    assert crate[CRATE]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}


def test_it_says_what_the_run_was_made_from_and_with(crate, run_folder):
    run = crate["#run"]
    assert crate[run["instrument"]["@id"]]["identifier"] == "git:" + "f" * 40
    taken = [crate[name] for name in references(run["object"])]
    (template,) = [one for one in taken if one["@type"] == "File"]
    assert template["alternateName"] == "my structures/t.cif.gz"
    assert template["sha256"] == hashlib.sha256((run_folder / "t.cif.gz").read_bytes()).hexdigest()
    assert int(template["contentSize"]) == (run_folder / "t.cif.gz").stat().st_size
    values = {one["name"]: json.loads(one["value"]) for one in taken if one["@type"] == "PropertyValue"}
    assert values["flex.modes"] == 9
    assert values["flex.conformers"] == 25
    assert values["train.loss.tversky_weight"] == 1
    assert values["seed"] == values["seed of tetris t001"] == 7
    assert {one["sha256"] for one in (crate[name] for name in references(run["containerImage"]))} == {"a" * 64, "b" * 64}
    assert crate["#image-native-0.1.0.sif"]["description"] == "of DESIGN, LABEL"
    software = {
        crate[name]["name"]: crate[name]["softwareVersion"] for name in references(crate["#workflow"]["softwareRequirements"])
    }
    assert {"template-learning", "python", "numpy"} <= software.keys()
    assert (software["Parakeet"], software["MULTEM"]) == ("0.6.8", "0.4.1")
    assert "native" not in software
    results = {crate[name]["@id"]: crate[name] for name in references(run["result"])}
    assert results.keys() >= set(PUBLISHED) - {CRATE}
    for name, entity in results.items():
        content = (run_folder / ("" if name == "index.json" else "run") / name).read_bytes()
        assert entity["contentSize"] == str(len(content))
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
    assert run["startTime"] <= run["endTime"]


def test_a_library_for_crates_reads_it(crate, run_folder):
    from rocrate.rocrate import ROCrate

    results = shutil.copytree(run_folder / "run", run_folder / "results")
    for name in ("index.json", CRATE):
        shutil.copy(run_folder / name, results)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = ROCrate(results)
    assert read.mainEntity["name"] == "Template Learning"
    assert {part.id for part in read.root_dataset["hasPart"]} >= set(PUBLISHED) - {CRATE}
    (action,) = read.get_by_type("CreateAction")
    assert action["instrument"].id == "#workflow"


def test_a_missing_piece_is_bad_input(run_folder):
    (run_folder / "run/check/inputs.json").unlink()
    with pytest.raises(BadInput, match=r"inputs\.json: no such file"):
        write_crate(run_folder / "run", run_folder / "about.json", run_folder)
