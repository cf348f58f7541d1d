from __future__ import annotations

import pytest

from serving.embedded import rest
from serving.embedded.versions import ModelSpec


def spec(version: str) -> ModelSpec:
    match = rest._PREDICTION.fullmatch(f"/v1/models/affine/versions/{version}:predict")
    assert match is not None
    return rest._spec(match)


@pytest.mark.parametrize(("digits", "version"), [("1", 1), ("007", 7), ("0" * 5000 + "1", 1), ("0" * 5000, 0), ("0", 0)])
def test_a_version_is_a_number_with_any_number_of_zeros_before_it(digits: str, version: int) -> None:
    assert spec(digits).version == version


@pytest.mark.parametrize("digits", [str(2**63), "9" * 30, "1" * 5000])
def test_a_version_beyond_int64_is_answered_without_a_body(digits: str) -> None:
    with pytest.raises(rest.EmptyAnswerError):
        spec(digits)
    assert spec(str(2**63 - 1)).version == 2**63 - 1
