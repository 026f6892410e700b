"""The benches' figures, what is kept of them in bench/results, and the pages of docs/measurements are one."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NO_BENCH = {"harness", "scenes", "keep", "pages", "peer_deepfinder"}
RUN = {"figures": {"seconds": 2.0}, "commit": "a" * 40, "date": "2026-12-01", "machine": "a machine", "peer": "a peer"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of bench/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module


@pytest.fixture
def pages(bench: Any) -> ModuleType:
    return bench("pages")


def test_every_bench_is_listed_and_its_figures_are_told(bench: Any) -> None:
    harness = bench("harness")
    files = {path.stem for path in (ROOT / "bench").glob("*.py")}
    assert files - NO_BENCH == set(harness.BENCHES)
    for name in harness.BENCHES:
        figures = bench(name).FIGURES
        assert figures, name
        untold = [figure for figure, what in figures.items() if not what.meaning or "\n" in what.meaning]
        assert not untold, name


def test_every_goal_can_be_read(bench: Any, pages: ModuleType) -> None:
    for name in bench("harness").BENCHES:
        for figure in bench(name).FIGURES.values():
            if figure.goal:
                assert pages.met(1.0, figure.goal) in (True, False)


def test_a_page_differs_from_no_kept_result(pages: ModuleType) -> None:
    written = {path.name: path.read_text() for path in (ROOT / "docs" / "measurements").glob("*.md")}
    assert written == pages.pages(), "make docs"


def test_kept_results_have_commits_and_no_unknown_figures(pages: ModuleType) -> None:
    for path in (ROOT / "bench" / "results").glob("*.json"):
        assert pages.problems(json.loads(path.read_text()), pages.figures_of(path.stem)) == [], path.name


def test_a_lost_commit_or_an_unknown_figure_is_found(pages: ModuleType) -> None:
    figures = pages.figures_of("cluster")
    assert pages.problems(RUN, figures) == []
    assert pages.problems({**RUN, "commit": None}, figures) == ["run 1 has no commit"]
    assert pages.problems({**RUN, "figures": {"secnods": 2.0}}, figures) == ["the bench names no figure secnods"]
    assert pages.problems({**RUN, "earlier": [RUN]}, figures) == ["figure seconds stands twice"]


def test_a_changed_value_changes_the_page(pages: ModuleType) -> None:
    changed = {**RUN, "figures": {"seconds": 2.5}}
    assert "| 2 |" in pages.page("cluster", RUN)
    assert "| 2.5 |" in pages.page("cluster", changed)
    assert pages.page("cluster", changed) != pages.page("cluster", RUN)


def test_a_missed_goal_is_said(pages: ModuleType) -> None:
    assert ">= 100 (missed)" in pages.page("cluster", {**RUN, "figures": {"cluster_speedup": 99.0}})
    assert "missed" not in pages.page("cluster", {**RUN, "figures": {"cluster_speedup": 100.0}})
    on_two = {**RUN, "machine": "EPYC, 2 processors, 8 GiB", "figures": {"cluster_speedup": 99.0}}
    assert ">= 100 (missed)" in pages.page("cluster", {**on_two, "load": 1.5})
    assert ">= 100 (missed, on a busy machine)" in pages.page("cluster", {**on_two, "load": 3.0})
    assert [pages.met(value, "0.95 to 1.05") for value in (0.94, 0.95, 1.05, 1.06)] == [False, True, True, False]
    assert [pages.met(value, "1") for value in (1.0, 0.99)] == [True, False]


def test_numbers_keep_what_matters(pages: ModuleType) -> None:
    values = (50_123_456.0, 0.9999988, 1.0, 0.0, 2.6e-12, 0.97654)
    assert [pages.number(value) for value in values] == ["50123456", "1 - 1.2e-06", "1", "0", "2.6e-12", "0.9765"]


def test_a_report_says_its_commit_and_refuses_an_undeclared_figure(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = bench("harness")
    monkeypatch.setattr(harness, "BUILD", tmp_path)
    figures = {"seconds": harness.Figure("how long it took", "< 3")}
    with pytest.raises(KeyError, match="secnods"):
        harness.report("toy", {"secnods": 2.0}, figures, "a peer")
    assert not list(tmp_path.iterdir())
    harness.report("toy", {"seconds": 2.0}, figures, "a peer", nodes=5)
    written = json.loads((tmp_path / "toy.json").read_text())
    assert (written["figures"], written["peer"], written["nodes"]) == ({"seconds": 2.0}, "a peer", 5)
    assert {"commit", "uncommitted", "load", "machine", "versions", "date"} <= set(written)


def test_a_measurement_of_a_changed_tree_is_not_kept(bench: Any, tmp_path: Path) -> None:
    keep = bench("keep")
    write(tmp_path / "built" / "cluster.json", {**RUN, "uncommitted": ["bench/cluster.py"]})
    with pytest.raises(keep.NotKept, match=r"bench/cluster\.py"):
        keep.keep("cluster", tmp_path / "built", tmp_path / "results")
    write(tmp_path / "built" / "cluster.json", {**RUN, "commit": None, "uncommitted": []})
    with pytest.raises(keep.NotKept, match="which commit"):
        keep.keep("cluster", tmp_path / "built", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_part_measured_anew_leaves_the_others_with_their_commit(bench: Any, tmp_path: Path) -> None:
    keep = bench("keep")
    write(tmp_path / "results" / "cluster.json", {**RUN, "figures": {"seconds": 2.0, "modes": 3}})
    write(tmp_path / "built" / "cluster.json", {**RUN, "commit": "b" * 40, "uncommitted": [], "figures": {"seconds": 1.0}})
    kept = json.loads(keep.keep("cluster", tmp_path / "built", tmp_path / "results").read_text())
    assert (kept["commit"], kept["figures"]) == ("b" * 40, {"seconds": 1.0})
    assert [(run["commit"], run["figures"]) for run in kept["earlier"]] == [("a" * 40, {"modes": 3})]


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
