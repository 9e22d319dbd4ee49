"""docs/choosing.md has the tables of its results file, and those that need no training are true."""

import json
import re

import pytest

from benchmarks import choosing
from tfpriv import central, federated


def written():
    return json.loads((choosing.DOCS / "choosing.json").read_text())


def test_the_page_is_made_of_its_results():
    page = (choosing.DOCS / "choosing.md").read_text()
    tables = choosing.tables(written())
    for marker, table in tables.items():
        assert f"<!-- {marker} -->\n\n{table}\n\n<!-- /{marker} -->" in page
    assert set(re.findall(r"<!-- (\w+) -->", page)) == set(tables)


def test_every_run_was_made_and_is_a_config():
    results = written()
    for table, rows in choosing.RUNS.items():
        assert set(results["runs"][table]) == set(rows)
        for name, fields in rows.items():
            config = federated.FederatedConfig if "rounds" in fields else central.CentralConfig
            config(**fields).complete()
            epsilon = results["runs"][table][name]["epsilon"]
            assert (epsilon is None) == ("target_epsilon" not in fields)
            assert epsilon is None or epsilon <= fields["target_epsilon"]


def test_what_samplers_cost_is_computed_today_as_then():
    for name, found in choosing.samplers().items():
        assert found == {
            "epsilon": pytest.approx(written()["samplers"][name]["epsilon"], rel=1e-6),
            "relation": written()["samplers"][name]["relation"],
        }


def test_a_guess_is_bounded_by_bayes():
    assert choosing.guess(0.0, 0.3) == pytest.approx(0.3)
    # A mechanism of exactly this epsilon: randomized response, 3 to 1 at ln 3.
    assert choosing.guess(1.0986122886681098, 0.5) == pytest.approx(0.75)
