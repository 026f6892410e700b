"""The demo as a user runs it: it must find nucleosomes that it has never seen."""

import json
import re

import pytest

pytestmark = pytest.mark.long


def test_demo_finds_nucleosomes_in_tomograms_held_out(pipeline):
    run = pipeline.run("-profile", "demo")
    assert run.status == 0, run.printed
    assert run.tasks("FAILED") == []
    scores = json.loads((run.outdir / "evaluate/simulated.evaluation.json").read_text())
    selected = scores["all"]["joint"]["selected"]
    print(f"demo: F1 {selected['f1']:.3f}, precision {selected['precision']:.3f}, recall {selected['recall']:.3f}")
    assert selected["f1"] >= 0.6
    page = (run.outdir / "report/report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?https?://""", page)
