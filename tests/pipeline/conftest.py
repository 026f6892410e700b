"""Drives Nextflow as a user would, each run in a folder of its own."""

import pytest

from ..runs import Pipeline


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path)
