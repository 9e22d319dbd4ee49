"""docs/secure_layers.md is what the code does today."""

import json

import pytest

from benchmarks import secure_layers


def written():
    return json.loads((secure_layers.DOCS / "secure_layers.json").read_text())


def test_the_page_is_made_of_the_results():
    assert (secure_layers.DOCS / "secure_layers.md").read_text() == secure_layers.as_text(written())
    assert list(written()) == list(secure_layers.CASES)


@pytest.mark.slow
def test_what_is_served_and_what_it_costs_is_what_the_page_says():
    for name, row in secure_layers.measure().items():
        told = written()[name]
        assert row["training"] == told["training"], name
        for protocol in secure_layers.inference_config.PROTOCOLS:
            found, said = row[protocol], told[protocol]
            assert (found is None) == (said is None), name
            if found is not None:
                assert found["rounds"] == said["rounds"], name
                assert found["bytes"] == pytest.approx(said["bytes"]), name
                # The last bits are random.
                assert found["error"] <= 4 * said["error"] + 2.0**-40, name
