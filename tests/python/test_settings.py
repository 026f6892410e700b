"""Settings that are refused."""

import pytest
from pydantic import ValidationError
from template_learning.settings import (
    TetrisSettings,
    TrainSettings,
)


def test_radii_come_in_order() -> None:
    with pytest.raises(ValueError, match="the least first"):
        TetrisSettings(vesicle_radius_angstrom=(300, 200))


# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_settings_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValidationError, match="a multiple of 8 was expected"):
        TrainSettings(patch_voxels=52, network="residual")
    with pytest.raises(ValidationError, match="a weight above 0 was expected"):
        TrainSettings(tversky_weight=0, crossentropy_weight=0)
    with pytest.raises(ValidationError, match="a crossentropy_weight above 0 was expected"):
        TrainSettings(top_view_weight=3, crossentropy_weight=0)
