"""Tilt angles as programs write them: read, or refused before a tomogram of another geometry is made."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.log import listening
from template_learning.stages.reconstruct import read_angles

from ..cases import Case

TILTS = np.arange(-60, 61, 3.0)


def lines(angles=TILTS, form="{:.2f}\n"):
    return "".join(form.format(angle) for angle in angles)


CASES = [
    Case("one angle in degrees a line", lambda: lines(), "taken"),
    Case("in any order, as a dose-symmetric scheme takes them", lambda: lines(sorted(TILTS, key=abs)), "taken"),
    Case("blanks, blank lines, remarks after #", lambda: "# tilts\n\n" + lines(form="   {:.2f}  # degrees\n\n"), "taken"),
    Case("a byte-order mark", lambda: "\ufeff" + lines(), "taken"),
    Case("Windows' line ends", lambda: lines().replace("\n", "\r\n"), "taken"),
    Case("UTF-16", lambda: lines().encode("utf-16"), "taken"),
    Case("decimal commas", lambda: lines().replace(".", ","), "taken"),
    Case("one or two angles taken twice", lambda: lines([*TILTS, 0.0]), "taken"),
    Case("two columns", lambda: lines(form="{:.2f} 1.5\n"), "refused", "line 1: 2 columns"),
    Case("all angles in one line", lambda: lines(form="{:.2f} "), "refused", "41 columns"),
    Case("radians", lambda: lines(np.deg2rad(TILTS), "{:.5f}\n"), "refused", "radians? (in degrees they would be -60.0 to 60.0)"),
    Case("radians of few tilts", lambda: lines(np.deg2rad([-60, -30, 0, 30, 60]), "{:.5f}\n"), "refused", "radians?"),
    Case("all angles 0", lambda: lines(TILTS * 0), "refused", "all 41 angles are 0"),
    Case("all angles the same", lambda: lines(TILTS * 0 + 7), "refused", "all 41 angles are 7"),
    Case("each angle several times", lambda: lines(np.repeat(TILTS, 2)), "refused", "82 of 82 angles stand there more than once"),
    Case("all within a few degrees", lambda: lines(TILTS / 10), "warning", "over a range of 12 degrees only"),
    Case("a gap in the range", lambda: lines(np.r_[-60:0:3.0, 40:61:3.0]), "warning", "no tilt between -3 degrees and the next"),
    Case("numbers of images (0, 1, 2, ...)", lambda: lines(range(41), "{}\n"), "refused", "numbers of the images?"),
    Case("an angle beyond 90 degrees", lambda: lines([*TILTS, 93]), "refused", "between -90 and 90"),
    Case("NaN", lambda: lines() + "nan\n", "refused", "between -90 and 90"),
    Case("a word", lambda: "angle\n" + lines(), "refused", "line 1: 'angle'"),
    Case("nothing but remarks", lambda: "# none\n", "refused", "between -90 and 90"),
    Case("an empty file", lambda: "", "refused", "empty"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_of_tilt_angles(tmp_path, case):
    content = case.make()
    path = tmp_path / "a.tlt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if case.outcome == "refused":
        with pytest.raises(BadInput) as refusal:
            read_angles(path)
        assert case.words in str(refusal.value)
        assert str(path) in str(refusal.value)
        return
    with listening() as heard:
        found = read_angles(path)
    said = " ".join(heard)
    assert bool(said) == (case.outcome == "warning")
    assert case.words in said
    if "gap" not in case.what and "few degrees" not in case.what:
        np.testing.assert_array_equal(np.unique(found), TILTS)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 5), st.floats(20, 89), st.floats(-20, 20))
def test_no_tilt_scheme_is_doubted_and_its_radians_are(tmp_path_factory, step, reach, first):
    path = tmp_path_factory.mktemp("any") / "a.tlt"
    angles = np.clip(np.arange(-reach, reach + step, step) + first, -90, 90)
    angles = np.unique(angles)
    assume(angles[0] not in (0, 1))
    path.write_text("".join(f"{angle:.3f}\n" for angle in angles))
    np.testing.assert_allclose(read_angles(path), angles, atol=1e-3)
    path.write_text("".join(f"{angle:.6f}\n" for angle in np.deg2rad(angles)))
    with pytest.raises(BadInput, match="radians"):
        read_angles(path)
