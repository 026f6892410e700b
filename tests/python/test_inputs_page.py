from pathlib import Path

from .inputs_page import SECTIONS, page

ROOT = Path(__file__).parents[2]


def test_the_page_of_inputs_says_what_the_tests_try():
    assert (ROOT / "docs/reference/inputs.md").read_text(encoding="utf-8") == page(), "`make docs` writes it anew"


def test_every_case_stands_there_once_and_every_refusal_has_words():
    for title, _, cases in SECTIONS:
        whats = [case.what for case in cases]
        assert len(set(whats)) == len(whats), title
        assert all(case.words for case in cases if case.outcome != "taken"), title
