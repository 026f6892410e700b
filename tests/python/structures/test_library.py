"""Libraries are read back."""

import pytest
from template_learning.common.errors import BadInput
from template_learning.structures.library import read_library


def test_a_library_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no library\.csv"):
        read_library([tmp_path])
    with pytest.raises(BadInput, match="no such folder"):
        read_library([tmp_path / "nowhere"])
