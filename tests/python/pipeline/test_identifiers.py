import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.pipeline.identifiers import AMBIGUOUS, check_identifiers
from template_learning.pipeline.outputs import KINDS

CASES = [
    (["t001"], ["t001"], "the tomogram has 't001', and so has the template"),
    (["TS_1", "ts_1"], [], "ids that differ were expected"),
    (["t001", "t002"], ["a", "b"], None),
    (["a_c000"], ["a"], "so a conformer of the template 'a' is called"),
    (["A_c12"], ["a"], "so a conformer of the template 'a' is called"),
    ([], ["a", "a_c000"], "so a conformer of the template 'a' is called"),
    (["a_c", "a_cx", "b_c000"], ["a"], None),
    ([], ["distractors_1"], "so a folder of the library is called"),
    (["t.labels"], [], "it ends as a kind of file does (.labels)"),
    (["t.mrc", "labels", "t.tilts2"], [], None),
]


@pytest.mark.parametrize(("tomograms", "templates", "words"), CASES)
def test_ids_of_all_sources_are_one_name_space(tomograms, templates, words):
    named = [(one, "the tomogram") for one in tomograms] + [(one, "the template") for one in templates]
    for order in (named, named[::-1]):
        if words is None:
            check_identifiers(order, templates)
            continue
        with pytest.raises(BadInput) as refusal:
            check_identifiers(order, templates)
        assert "'" in str(refusal.value)
        assert words in str(refusal.value) or "ids that differ" in str(refusal.value)


identifiers = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["a", "b", "A", "t1", "distractors"]),
        st.sampled_from(["", "_c000", "_1", ".labels", ".mrc", ".tilts", ".picks", "_c"]),
        st.sampled_from(["", "_c001", ".labels", ".csv"]),
    ),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(identifiers, min_size=1, max_size=4), st.lists(identifiers, max_size=3))
def test_what_is_let_through_gives_no_file_two_owners(tomograms, templates):
    """Every kind of file of every item, its sidecar included, is called as no other item's of that stage."""
    try:
        check_identifiers([(one, "") for one in [*tomograms, *templates]], templates)
    except BadInput:
        return
    owners: dict[str, str] = {}
    conformers = {f"{one}_c{number:03d}": one for one in templates for number in range(2)}
    for item, kind in itertools.product(tomograms, KINDS):
        if kind.path.count("<") == 1 and "<tomogram>" in kind.path:
            name = kind.path.replace("<tomogram>", item).split("/", 1)[1]
            for one in (name, name + ".json"):
                # the stage is not looked at: TRAIN has the files of three stages in one folder
                assert owners.setdefault(one, item) == item
    owners = {}
    for name, item in [*conformers.items(), *((one, one) for one in [*tomograms, *templates]), ("distractors_1", "")]:
        assert owners.setdefault(name, item) == item


def test_the_ambiguous_endings_follow_from_the_kinds():
    assert {".labels", ".tilts", ".picks", ".placed", ".segmentation"} <= set(AMBIGUOUS)
