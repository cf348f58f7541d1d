"""serving.deploy: how far the answers of a served model may be from the golden outputs."""

from types import SimpleNamespace

import pytest

from faceoff import presets
from serving import deploy
from tests.unit.faceoff.test_servables import ROWS, two_precisions

WIRE = presets.model("cnn").tolerances.wire
TRAINED = SimpleNamespace(manifest=SimpleNamespace(model="cnn"), signature=None)


@pytest.mark.parametrize(("row", "tolerance"), [(ROWS[0], WIRE), (ROWS[1], 0.47)])
def test_the_tolerance_is_the_wires_or_the_wider_one_of_a_lower_precision(tmp_path, row, tolerance):
    _, form, path, precision, verified_within = row
    found = deploy.served(two_precisions(tmp_path), TRAINED, form, 1)
    assert (found.artifact.name, found.precision, found.tolerance) == (path, precision, tolerance)
    assert verified_within <= tolerance
