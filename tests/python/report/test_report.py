import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread
from template_learning.common.errors import BadInput
from template_learning.common.files import write_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_json, write_sidecar
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow, PickRow
from template_learning.learning.spectrum import radial_spectrum
from template_learning.report.domain_gap import as_the_network_sees, domain_gap_section, training_look
from template_learning.report.page import notes
from template_learning.report.picking_sections import richest_depth, shown_tomograms, sorted_marks
from template_learning.report.run import Run
from template_learning.report.simulation_sections import molecules_section
from template_learning.settings import Settings
from template_learning.stages.evaluate import evaluate_picks
from template_learning.stages.report import write_report

from ..builders import pick


def test_the_report_shows_how_far_conformers_lie(tmp_path):
    (tmp_path / "flex").mkdir()
    conformers = [{"rmsd_angstrom": rmsd, "accepted": rmsd < 4} for rmsd in (1.0, 2.0, 3.0, 4.0, 5.0)]
    metadata = {"conformers": conformers, "rejected_draws": 7, "nodes": 1234, "loose_nodes": 12, "zero_modes": 8}
    (tmp_path / "flex/one.flex.json").write_text(json.dumps(metadata))
    section = molecules_section(Run.open(tmp_path))
    assert section is not None
    (table,) = section.blocks
    assert list(table.rows) == [["one", "5", "1.0", "2.0", "3.0", "4.0", "5.0", "7", "2", "1,234", "12", "8"]]


SHAPE, VOXEL = (20, 36, 40), 10.0


TESTS, OTHERS, REAL = ("t001", "t002"), ("t003", "t004"), "ts_7"


SETTINGS = Settings.model_validate(
    {
        "seed": 7,
        "outdir": "a <b>bold</b> folder",
        "design": {"scheme": "sobol", "tomograms": 4},
        "evaluate": {"match_radius_voxels": 3.0},
        "reconstruct": {"voxel_size_angstrom": VOXEL},
    }
)


def picks_about(centres, wrong, sizes):
    rows = []
    for place, (position, size) in enumerate(zip([*centres, *wrong], sizes, strict=True), 1):
        rows.append(pick(position, size, selected=size >= 30, number=place))
    return rows


def make_run(folder):
    """A whole run in small: two test tomograms with three particles each, two of them found, one wrong pick."""
    random = np.random.default_rng(5)
    write_json(folder / "check/settings.json", SETTINGS.model_dump(mode="json"))
    templates = [
        {"id": name, "role": "template", "class_name": "core<i>", "class_id": 1, "share": 1.0} for name in ("1ABC", "2ABC")
    ]
    distractor = {"id": "1s3x", "role": "distractor", "class_name": "", "class_id": 0, "share": 1.0}
    write_json(folder / "check/inputs.json", {"templates": templates, "distractors": [distractor], "tomograms": [{"id": REAL}]})
    library = [
        LibraryRow(molecule=f"{name}_c000", species=name, role=role, class_id=number, share=1, mass_dalton=2e5, atom_count=9000,
                   density="x.mrc", atoms="x.npz")
        for name, role, number in (("1ABC", "template", 1), ("2ABC", "template", 1), ("1s3x", "distractor", 0))
    ]  # fmt: skip
    write_table(folder / "volume/all/library.csv", LibraryRow, library)
    design = [
        DesignRow(id=name, split="test" if name in TESTS else "train", total_dose_e_per_angstrom2=60.0 + 10 * place,
                  defocus_um=-3.0, tilt_range_deg=40, tilt_step_deg=20, ice_density_g_per_cm3=1.0)
        for place, name in enumerate((*TESTS, *OTHERS))
    ]  # fmt: skip
    write_table(folder / "design/design.csv", DesignRow, design)
    write_sidecar(folder / "design/design.csv", stage="design", item="design", seed=7, settings=SETTINGS.design)
    for name in (*TESTS, *OTHERS):
        positions = np.array([[100.0, 100.0, 100.0], [300.0, 120.0, 90.0], [200.0, 250.0, 110.0], [60.0, 300.0, 60.0]])
        rows = [
            ParticleRow(particle=k, molecule="1ABC_c000" if k < 4 else "1s3x", species="1ABC" if k < 4 else "1s3x",
                        class_id=int(k < 4), x_angstrom=x, y_angstrom=y, z_angstrom=z, rot_deg=0, tilt_deg=10 * k, psi_deg=0,
                        axis_x=0, axis_y=0.6, axis_z=0.8)
            for k, (x, y, z) in enumerate(positions.tolist(), 1)
        ]  # fmt: skip
        write_table(folder / f"tetris/{name}.placed.csv", ParticleRow, rows)
        metadata = {"shape_voxels": SHAPE, "voxel_size_angstrom": VOXEL, "filled_fraction": 0.21, "protein_mg_per_ml": 180.0}
        metadata["closest_approach_angstrom"] = 3.25 + len(name) * (name not in TESTS)
        write_sidecar(
            folder / f"tetris/{name}.placed.csv", stage="tetris", item=name, seed=3, settings=SETTINGS.tetris, **metadata
        )
        write_table(folder / f"label/{name}.particles.csv", ParticleRow, rows)
        instances = np.zeros(SHAPE, np.uint16)
        for row in rows:
            z, y, x = (int(value / VOXEL) for value in (row.z_angstrom, row.y_angstrom, row.x_angstrom))
            instances[max(0, z - 2) : z + 3, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = row.particle
        write_mrc(folder / f"label/{name}.instances.mrc", instances, VOXEL)
        write_mrc(folder / f"simulate/{name}.tilts.mrc", random.normal(size=(5, 72, 80)).astype(np.float32), 5.0, stack=True)
        (folder / f"simulate/{name}.tlt").write_text("-40\n-20\n0\n20\n40\n")
        write_mrc(folder / f"reconstruct/{name}.mrc", random.normal(size=SHAPE).astype(np.float32), VOXEL)
    (folder / "train").mkdir()
    history = "epoch,steps,learning_rate,loss,validation_loss,validation_f1,best,averaged\n"
    history += "".join(f"{k},{k},0.001,{1 / k},{1.1 / k},{1 - 1 / k},{k < 4},1\n" for k in range(1, 6))
    (folder / "train/history.csv").write_text(history)
    write_sidecar(
        folder / "train/history.csv", stage="train", item="model", seed=7, settings=SETTINGS.train, notes=["<script>"]
    )
    for name in (*TESTS, REAL):
        segmentation = np.zeros(SHAPE, np.uint8)
        segmentation[8:12, 8:12, 8:12] = 1
        write_mrc(folder / f"segment/{name}.segmentation.mrc", segmentation, VOXEL)
        write_mrc(folder / f"segment/{name}.log_odds.mrc", np.where(segmentation > 0, 4, -4).astype(np.float32), VOXEL)
        metadata = {"minimum_size_chosen": "best F1 on 2 tomograms"}
        write_sidecar(
            folder / f"segment/{name}.segmentation.mrc",
            stage="segment",
            item=name,
            seed=None,
            settings=SETTINGS.segment,
            **metadata,
        )
        picks = picks_about([[105, 100, 95], [300, 110, 90]], [[350, 340, 150], [20, 20, 20]], [64, 50, 40, 12])
        write_table(folder / f"cluster/{name}.picks.csv", PickRow, picks)
        metadata = {
            "shape_voxels": SHAPE,
            "voxel_size_angstrom": VOXEL,
            "minimum_size_voxels": {"1": 30},
            "minimum_size_from": "model",
        }
        write_sidecar(
            folder / f"cluster/{name}.picks.csv", stage="cluster", item=name, seed=None, settings=SETTINGS.cluster, **metadata
        )
    lines = [f"{name},cluster/{name}.picks.csv,label/{name}.particles.csv," for name in TESTS]
    (folder / "table.csv").write_text("\n".join(["id,picks,truth,mask", *lines]))
    evaluate_picks(folder / "table.csv", "simulated", SETTINGS.evaluate, folder / "evaluate")
    return folder


class Page(HTMLParser):
    """A page's sections, images, links, visible text and tags left open."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, page):
        super().__init__()
        self.sections, self.images, self.links, self.open, self.texts, self.tags = [], [], [], [], [], []
        self.feed(page)
        assert self.open == []

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset", "poster")]
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "img":
            self.images.append((found["src"], found["alt"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(run_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "report.html"
    write_report(run_folder, output)
    return output.read_text(encoding="utf-8")


@pytest.fixture
def part(run_folder, tmp_path):
    """The run again, to take parts away from."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def read_page(folder):
    output = folder.parent / "report.html"
    write_report(folder, output)
    return Page(output.read_text(encoding="utf-8"))


EVERYTHING = [
    "scores-simulated", "picks-simulated", "picks-experimental", "training", "molecules", "packing", "imaging", "tilts",
    "parameters", "provenance",
]  # fmt: skip


def test_a_whole_run_has_every_section(whole):
    assert Page(whole).sections == EVERYTHING
    assert len(whole) < 5_000_000


def test_nothing_is_fetched_from_anywhere(whole):
    assert all(link.startswith(("data:image/", "#")) for link in Page(whole).links)
    bare = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", whole)
    bare = bare.replace(Settings().pdb_address, "")  # among the parameters, as text
    for word in ("http", "url(", "@import", "//"):
        assert word not in bare
    assert "script" not in Page(whole).tags


def test_images_decode_and_have_words_for_who_cannot_see_them(whole):
    images = Page(whole).images
    kinds = [source.split(";")[0] for source, _ in images]
    assert kinds.count("data:image/png") == 3 + 2 + 2  # tomograms, packed samples, tilt series
    assert kinds.count("data:image/svg+xml") == 5  # curves, tomograms' scores, orientations, histograms, training
    for source, alternative in images:
        content = base64.b64decode(source.split(",", 1)[1], validate=True)
        if source.startswith("data:image/png"):
            pixels = imread(io.BytesIO(content))
            assert pixels.shape[1] > 800
            assert pixels.std() > 0.05
        else:
            root = ElementTree.fromstring(content)
            links = [value for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith("#") for link in links)
        assert len(alternative) > 20


@pytest.mark.parametrize(("averaged", "kept", "longer"), [(1, "epoch 2 kept", True), (2, "mean of epochs 1 to 2 kept", False)])
def test_what_was_kept_is_said_and_whether_longer_training_may_help(part, averaged, kept, longer):
    history = f"epoch,steps,learning_rate,loss,validation_loss,validation_f1,best,averaged\n1,1,1,1,1,0,True,1\n2,2,1,1,0.5,0,True,{averaged}\n"
    (part / "train/history.csv").write_text(history)
    text = read_page(part).text
    assert kept in text
    assert ("longer training may give more" in text) == longer


def test_what_users_wrote_is_escaped(whole):
    page = Page(whole)
    assert "core<i>" in page.text
    assert "a <b>bold</b> folder" in page.text
    assert "history.csv: <script>" in page.text
    assert "b" not in page.tags
    assert "i" not in page.tags


def test_figures_of_merit_are_those_of_the_evaluation(whole, run_folder):
    text = Page(whole).text
    score = json.loads((run_folder / "evaluate/simulated.evaluation.json").read_text())["all"]["joint"]
    assert score["selected"]["f1"] == pytest.approx(2 / 3)
    assert "F1, held-out simulated tomograms 0.67 precision 0.67, recall 0.67" in text
    assert "size threshold (voxels) 30 from the model (best F1 on 2 tomograms)" in text
    assert "3 selected picks, 2 right, 1 wrong; 1 particle missed" in text
    assert "templates placed 12 4 distractors beside them" in text
    assert "4 samples 16 12 4 0.33 21.0 180 3.25" in text  # filled, concentration, and the least of the closest approaches
    assert "t003 4 3 1 0.33 21.0 180 7.25" in text
    assert "The picks in the experimental tomograms are not scored" in text
    assert "rest on 6 particles only" in text


def test_only_changed_parameters_come_first(whole):
    text = Page(whole).text
    first = text[text.index("Set for this run") : text.index("All parameters (")]
    assert "reconstruct.voxel_size_angstrom 10 13" in first
    assert "seed 7 1" in first
    assert "train.epochs" not in first
    assert "train.epochs" in text


def test_the_same_files_give_the_same_page(whole, run_folder, tmp_path):
    write_report(run_folder, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == whole
    assert list(tmp_path.iterdir()) == [tmp_path / "again.html"]


@pytest.mark.parametrize(
    ("taken", "gone"),
    [
        (["evaluate"], {"scores-simulated"}),
        (["train"], {"training"}),
        (["simulate"], {"tilts"}),
        (["cluster", "segment", "evaluate"], {"scores-simulated", "picks-simulated", "picks-experimental"}),
        (["volume", "check/settings.json"], {"parameters"}),
        (["tetris", "simulate", "reconstruct", "label"], {"packing", "tilts"}),
        (["reconstruct", "label/t001.instances.mrc"], set()),
    ],
)
def test_parts_of_a_run_have_their_sections_only(part, taken, gone):
    for name in taken:
        path = part / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert read_page(part).sections == [name for name in EVERYTHING if name not in gone]


def test_a_run_that_only_picks(part):
    for name in ("volume", "design", "tetris", "simulate", "reconstruct", "label", "train", "evaluate"):
        shutil.rmtree(part / name)
    for name in TESTS:
        for path in part.glob(f"*/{name}.*"):
            path.unlink()
    page = read_page(part)
    assert page.sections == ["picks-experimental", "molecules", "parameters", "provenance"]
    assert "Log-odds of the target in tomogram ts_7" in page.text
    assert "Nothing says what is in the tomograms" in page.text


def test_experimental_tomograms_and_annotations_beside_the_run_are_shown(part):
    write_mrc(part / f"tomograms/{REAL}.rec", np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), VOXEL)
    (part / f"tomograms/{REAL}.csv").write_text("x,y,z\n10,10,10\n30,12,9\n")
    page = read_page(part)
    text = page.text
    assert "domain-gap" in page.sections
    assert "2 simulated tomograms and 1 experimental tomogram" in text
    assert "Probability of the target" not in text
    assert f"Tomogram {REAL}" in text
    assert "3 selected picks, 2 right, 1 wrong; 0 particles missed" in text


def write_segment_facts(folder, settings, **metadata):
    """What SEGMENT says of the user's tomogram, and its settings; the training's tomograms and design are gone."""
    for name in ("design", "reconstruct"):
        shutil.rmtree(folder / name, ignore_errors=True)
    chosen = SETTINGS.model_copy(update={"segment": SETTINGS.segment.model_copy(update=settings)})
    write_json(folder / "check/settings.json", chosen.model_dump(mode="json"))
    path = folder / f"segment/{REAL}.segmentation.mrc"
    write_sidecar(path, stage="segment", item=REAL, seed=None, settings=chosen.segment, **metadata)


CARD = {"training_spectrum": [2.0] * 16 + [0.5] * 16, "training_grey_histogram": [0.1] * 80, "model_voxel_size_angstrom": 8.0}


def test_without_training_tomograms_the_models_card_says_how_they_looked(part):
    write_mrc(part / f"tomograms/{REAL}.mrc", np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), VOXEL)
    assert domain_gap_section(Run.open(part)) is not None
    write_segment_facts(part, {}, **CARD)
    look = training_look(Run.open(part), REAL)
    assert look.frequency[-1] == pytest.approx(31.5 / 32 / 16)  # the last shell ends at Nyquist
    assert (look.power[0], look.power[-1], look.share) == (4.0, 0.25, CARD["training_grey_histogram"])
    assert "The model's training tomograms and 1 experimental tomogram" in read_page(part).text
    # A model of an older version says nothing of grey values, or nothing at all.
    write_segment_facts(part, {}, **{name: CARD[name] for name in ("training_spectrum", "model_voxel_size_angstrom")})
    assert training_look(Run.open(part), REAL).share == []
    assert domain_gap_section(Run.open(part)) is not None
    write_segment_facts(part, {})
    assert domain_gap_section(Run.open(part)) is None


@pytest.mark.long
def test_the_gap_is_that_of_the_tomograms_as_the_network_sees_them(part):
    grey = np.random.default_rng(2).gamma(1.0, size=(32, 32, 32)).astype(np.float32)  # its grey values are far from symmetric
    write_mrc(part / f"tomograms/{REAL}.mrc", grey, VOXEL)
    write_segment_facts(part, {}, **CARD, voxel_size_angstrom=VOXEL)
    plain, voxel = as_the_network_sees(Run.open(part), REAL)
    assert (voxel, plain.shape) == (8.0, (39, 39, 39))  # 31 steps of 10 are 38 of 8 and some more
    # The table's voxel size goes before the header's, and it is the model's: nothing is resampled.
    write_json(part / "check/inputs.json", {"tomograms": [{"id": REAL, "voxel_size_angstrom": 8.0}]})
    own, voxel = as_the_network_sees(Run.open(part), REAL)
    assert (voxel, own.shape) == (8.0, grey.shape)
    np.testing.assert_allclose(own, (grey - grey.mean()) / grey.std(), atol=1e-4)
    write_segment_facts(part, {"contrast": "protein_bright"}, **CARD)
    np.testing.assert_allclose(as_the_network_sees(Run.open(part), REAL)[0], -own)
    assert "inverted" in read_page(part).text
    write_segment_facts(part, {"match_spectrum": True}, **CARD)
    assert "before the filter" not in read_page(part).text
    write_segment_facts(part, {}, **CARD, model_band_pass_angstrom=[3, 40])
    assert "before the filter that the model was trained with" in read_page(part).text
    write_segment_facts(part, {"match_spectrum": True}, **CARD)
    matched = radial_spectrum(as_the_network_sees(Run.open(part), REAL)[0])
    np.testing.assert_allclose(matched[3:14], 2.0, rtol=0.2)
    np.testing.assert_allclose(matched[18:], 0.5, rtol=0.2)


def test_picks_are_sorted_by_the_truth(run_folder):
    grid = Grid(shape=SHAPE, voxel_size_angstrom=VOXEL)
    marks = sorted_marks(Run.open(run_folder), "t001", grid)
    np.testing.assert_allclose(marks.hits, [[105, 100, 95], [300, 110, 90]])
    np.testing.assert_allclose(marks.false, [[350, 340, 150]])
    np.testing.assert_allclose(marks.missed, [[200, 250, 110]])
    assert len(marks.other) == 0
    assert len(sorted_marks(Run.open(run_folder), REAL, grid).other) == 3
    depth = richest_depth(marks, "xy", grid)
    everything = np.concatenate([marks.hits, marks.false, marks.missed])[:, 2]
    number_cut = [(np.abs(everything - z * VOXEL) < 0.8 * marks.radius_angstrom).sum() for z in range(SHAPE[0])]
    assert number_cut[int(depth / VOXEL)] == max(number_cut)


def test_best_middle_and_worst_tomograms_are_shown():
    class Stub(Run):
        picks = {f"t{k}": [None] * 0 for k in range(5)}  # noqa: RUF012

    run = Stub(Path("nowhere"))
    assert shown_tomograms(run, "simulated", ["t0", "t1"]) == ["t0", "t1"]
    assert shown_tomograms(run, "simulated", ["t4", "t3", "t2", "t1", "t0"]) == ["t0", "t2", "t4"]


def test_samples_that_failed_are_named_with_their_stage(part):
    assert not Run.open(part).failed
    (part / "tetris/t004.placed.csv").unlink()
    for name in ("t003", "t004"):
        (part / f"label/{name}.particles.csv").unlink()
    assert Run.open(part).failed == {"t003": "label", "t004": "tetris"}
    assert "Simulated tomograms that failed are left out: t004 (TETRIS), t003 (LABEL)." in notes(Run.open(part))


def test_broken_runs_are_refused(part, tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        write_report(tmp_path / "none", tmp_path / "report.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="none of a run's folders"):
        write_report(tmp_path / "empty", tmp_path / "report.html")
    (part / "simulate/t001.tlt").write_text("-40\n0\n40\n")
    with pytest.raises(BadInput, match=r"t001\.tlt: 3 angles for 5 images"):
        write_report(part, tmp_path / "report.html")
    shutil.rmtree(part / "simulate")
    content = (part / "reconstruct/t001.mrc").read_bytes()
    (part / "reconstruct/t001.mrc").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"t001\.mrc: not a whole MRC file"):
        write_report(part, tmp_path / "report.html")
    (part / "reconstruct/t001.mrc").write_bytes(content)
    (part / "check/settings.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        write_report(part, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_classes_and_masks_have_rows_of_their_own(part):
    mask = np.zeros(SHAPE, np.int8)
    mask[:, :, :20] = 1
    write_mrc(part / "mask.mrc", mask, VOXEL)
    for name in TESTS:
        rows = [row.model_copy(update={"class_id": 2}) if row.pick == 3 else row for row in Run.open(part).picks[name]]
        write_table(part / f"cluster/{name}.picks.csv", PickRow, rows)
    lines = [f"{name},cluster/{name}.picks.csv,label/{name}.particles.csv,mask.mrc" for name in TESTS]
    (part / "table.csv").write_text("\n".join(["id,picks,truth,mask", *lines]))
    settings = SETTINGS.evaluate.model_copy(update={"rank": "score"})
    evaluate_picks(part / "table.csv", "experimental", settings, part / "evaluate")
    page = read_page(part)
    assert page.sections[2:4] == ["scores-experimental", "picks-experimental"]
    text = page.text[page.text.index("Scores: experimental tomograms All") :]
    assert "within the mask all" in text
    assert "whole tomogram core<i>" in text
    assert "lowest score" in text


def test_fine_tuning_has_its_table_and_says_which_tomograms_were_taught(part):
    (part / "finetune").mkdir()
    rows = ["split,epochs,taught,id,annotations,selected,matched,precision,recall,f1"]
    rows += [
        f"{split},{epochs},2,ts_{split},10,8,6,0.75,0.6,{0.25 * split + epochs / 100}" for split in (1, 2) for epochs in (0, 10)
    ]
    (part / "finetune/finetuning.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(part / "evaluate/simulated.evaluation.json", part / "evaluate/experimental.evaluation.json")
    for name in ("curve", "per_tomogram"):
        shutil.copy(part / f"evaluate/simulated.{name}.csv", part / f"evaluate/experimental.{name}.csv")
    page = read_page(part)
    assert "finetuning" in page.sections
    assert "1 2 1 0.250 0.350 2 2 1 0.500 0.600 all 0.375 0.475" in page.text
    assert "fine-tuned on the experimental tomograms' annotations" in page.text


def test_template_matching_is_shown_beside_the_network(part):
    before = read_page(part)
    assert "Template matching, the same tomograms" not in before.text
    for name in TESTS:
        rows = [row.model_copy(update={"size_voxels": 1}) for row in Run.open(part).picks[name][:1]]
        write_table(part / f"match/{name}.picks.csv", PickRow, rows)
        shutil.copy(part / f"cluster/{name}.picks.csv.json", part / "match")
    lines = [f"{name},match/{name}.picks.csv,label/{name}.particles.csv," for name in TESTS]
    (part / "table.csv").write_text("\n".join(["id,picks,truth,mask", *lines]))
    evaluate_picks(
        part / "table.csv", "simulated_matched", SETTINGS.evaluate.model_copy(update={"rank": "score"}), part / "evaluate"
    )
    page = read_page(part)
    assert page.sections == before.sections
    assert "Template matching, the same tomograms" in page.text
    assert "Recall by orientation, template matching" in page.text
    assert [one for one in page.images if one not in before.images] != []


def test_what_is_known_of_a_tomogram_without_truth_and_the_plain_peer_are_shown(part):
    path = part / f"cluster/{REAL}.picks.csv.json"
    known = {
        "contrast": "protein_bright",
        "expected": {"1": {"precision": 0.87, "recall": 0.64, "f1": 0.74}},
        "domain_distance": {"spectrum": 1.2, "grey_values": 0.5, "scores": None, "total": 1.3, "far_from": 1.0},
        "score_kind": "log_odds",
        "minimum_score": {"1": -0.4},
    }
    write_json(path, json.loads(path.read_text()) | known)
    evaluation = part / "evaluate/simulated.evaluation.json"
    scores = json.loads(evaluation.read_text())
    scores["all"]["joint"]["blobs"] = {"threshold": 3.2, "precision": 0.9, "recall": 0.991, "f1": 0.943}
    write_json(evaluation, scores)
    shutil.copy(part / "evaluate/simulated.curve.csv", part / "evaluate/simulated.blobs_curve.csv")
    text = read_page(part).text
    assert f"{REAL} is unlike the training tomograms (distance 1.30; from 1 on this is said)" in text
    assert "bright 0.87 0.64 1.30" in text
    assert "A difference of two Gaussians of the molecule's size, with its best threshold" in text
    assert "0.900 0.991 0.943" in text
    assert "worse than a plain difference of two Gaussians" in text
    assert "-0.40" in text
    assert Run.open(part).evaluations.keys() == {"simulated"}


def test_what_check_doubted_stands_first(part):
    doubts = ["my/a.mrc: voxels of 16 Å, twice the model's", "my/t.csv: read as Latin-1"]
    write_json(part / "check/inputs.json", {"tomograms": [{"id": REAL}], "notes": doubts})
    assert notes(Run.open(part))[:2] == doubts
    write_report(part, part / "report.html")
    page = (part / "report.html").read_text(encoding="utf-8")
    assert "<li>my/a.mrc: voxels of 16 Å, twice the model&#39;s</li>" in page
    assert page.index(doubts[1]) < page.index("<nav")
