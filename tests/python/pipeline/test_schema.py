import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from template_learning.deepfinder.program import effective_settings
from template_learning.pipeline.paper import PRESETS, SIDE_BY_SIDE, preset_lines
from template_learning.pipeline.schema import generated_files
from template_learning.settings import Settings, flat

ROOT = Path(__file__).parents[3]


def test_generated_files_are_fresh():
    stale = [
        name
        for name, content in generated_files(ROOT).items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != content
    ]
    assert not stale, "run `make docs`"


def test_every_parameter_has_a_unit_or_meaning():
    schema = Settings.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, field in section["properties"].items():
            assert "$ref" in field or "default" not in field or field.get("description"), name


@pytest.mark.parametrize("preset", ["demo", "ribosome", "nucleosome", "fas", "workstation", "ablation"])
def test_presets_are_valid_and_complete(preset):
    content = yaml.safe_load((ROOT / "presets" / f"{preset}.yml").read_text())
    settings = Settings.model_validate(content)
    for stage in ("flex", "volume", "design", "tetris", "reconstruct", "train", "evaluate"):
        assert stage in content
    assert settings.simulate.pixel_size_angstrom == pytest.approx(settings.reconstruct.voxel_size_angstrom / 2)


def test_the_papers_settings_stand_in_the_presets():
    read = {
        name: Settings.model_validate(yaml.safe_load((ROOT / f"presets/{name}.yml").read_text()))
        for name in ("ribosome", "nucleosome", "fas")
    }
    assert [read[name].flex.conformers for name in read] == [25, 100, 80]
    assert [read[name].reconstruct.voxel_size_angstrom for name in read] == [13, 8, 13]
    assert [read[name].tetris.distractors_per_template for name in read] == [
        9,
        3,
        9,
    ]  # with the released script's repeated lines
    for settings in read.values():
        assert settings.tetris.excluded_volume == "released"
        assert (settings.tetris.grey_level, settings.tetris.erosion_voxels, settings.tetris.centre_margin_angstrom) == (
            100,
            2,
            192,
        )
        assert (settings.flex.first_mode, settings.flex.modes) == (7, 20)
        assert settings.design.validation_tomograms == 1
        assert effective_settings(settings.train) == settings.train  # DeepFinder's own way, and nothing else
        assert settings.train.patch_voxels == 48
    assert read["ribosome"].design.phase_shift_deg == [90]
    assert read["nucleosome"].tetris.shape_voxels == (64, 256, 256)
    assert read["fas"].label.kind == "sphere"


def test_every_number_of_the_papers_presets_says_where_it_is_from_and_stands_in_the_page():
    page = (ROOT / "docs/reference/paper.md").read_text()
    named = set()
    for name in PRESETS:
        text = (ROOT / f"presets/{name}.yml").read_text()
        lines = list(preset_lines(text))
        assert {parameter: yaml.safe_load(value) for parameter, value, _ in lines} == flat(yaml.safe_load(text))
        for parameter, value, source in lines:
            assert re.match("(paper|released script|DeepFinder|our choice)(:|;|$)", source), (name, parameter)
            assert f"| `{parameter}` |" in page
            assert f"`{value}`" in page
            named.add(parameter)
    assert set(SIDE_BY_SIDE) <= named


def test_the_papers_molecules_are_entries_with_frequencies():
    count = {}
    for name in (*PRESETS, "distractors"):
        with (ROOT / f"data/paper/{name}.csv").open() as table:
            rows = list(csv.DictReader(table))
        assert all(re.fullmatch("pdb:[1-9][a-z0-9]{3}", row["path"]) and row["path"] == f"pdb:{row['id']}" for row in rows)
        assert len({row["id"] for row in rows}) == len(rows)
        count[name] = len(rows)
    assert count == {"ribosome": 6, "nucleosome": 6, "fas": 2, "distractors": 100}
    assert {row["share"] for row in rows} == {"1", "2", "3", "4", "5"}


def test_nextflow_defaults_are_the_models(tmp_path):
    # An independent reading of the generated Groovy: every scalar of the model stands in it once, under its section.
    found, groups = {}, []
    for line in (ROOT / "conf/generated/defaults.config").read_text().splitlines()[2:-1]:
        if line.endswith("{"):
            groups.append(line.split()[0])
        elif line.strip() == "}":
            groups.pop()
        else:
            name, _, value = line.strip().partition(" = ")
            assert ".".join([*groups, name]) not in found
            found[".".join([*groups, name])] = value
    defaults = flat(json.loads(Settings.model_construct().model_dump_json()))
    assert found.pop("design.groups") == "[:]"
    assert defaults.pop("design.groups") == {}
    assert found == {name: f"'{value}'" if isinstance(value, str) else json.dumps(value) for name, value in defaults.items()}


def test_unknown_parameters_are_refused():
    with pytest.raises(ValidationError):
        Settings.model_validate({"flex": {"mode": 7}})


def test_the_schema_has_nf_schemas_shape_and_every_parameter():
    schema = json.loads((ROOT / "nextflow_schema.json").read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "template-learning pipeline parameters"
    assert [one["$ref"] for one in schema["allOf"]] == [f"#/$defs/{name}" for name in schema["$defs"]]
    found = {}

    def read(properties, prefix):
        for name, field in properties.items():
            assert field["description"], name
            if "properties" in field:
                assert field["type"] == "object"
                read(field["properties"], f"{prefix}{name}.")
            else:
                assert f"{prefix}{name}" not in found
                found[f"{prefix}{name}"] = field

    for group in schema["$defs"].values():
        assert group["title"]
        assert group["type"] == "object"
        read(group["properties"], "")
    defaults = flat(json.loads(Settings.model_construct().model_dump_json()))
    assert {name: field.get("default") for name, field in found.items()} == defaults
    assert found["train.loss.tversky_weight"]["minimum"] == 0
    assert found["cluster.minimum_log_odds"]["type"] == ["number", "null"]
    assert found["cluster.chosen_by"]["enum"] == ["threshold", "expected_f1"]
