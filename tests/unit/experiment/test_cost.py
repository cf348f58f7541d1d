"""experiment.cost: a price list of the user's, and what follows from it."""

import pytest

from experiment import cost
from faceoff.errors import UsageError


def test_a_million_inferences_at_full_use(tmp_path):
    (tmp_path / "prices.yaml").write_text("currency: EUR\nper_core_hour: 0.036\n")
    prices = cost.read(tmp_path / "prices.yaml")
    assert prices.per_million(throughput_rps=1000.0, cores=1) == pytest.approx(0.01)
    assert prices.per_million(throughput_rps=1000.0, cores=4) == pytest.approx(0.04)


@pytest.mark.parametrize(
    "text", ["", "currency: EUR\n", "currency: EUR\nper_core_hour: free\n", "per_core_hour: -1\ncurrency: EUR\n", "- 1\n", "{"]
)
def test_a_file_that_is_no_price_list_is_the_users_mistake(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="expected `currency: EUR`"):
        cost.read(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="PRICES="):
        cost.read(tmp_path / "none.yaml")
