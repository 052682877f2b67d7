"""What the shipped model's importance is worth on a real case."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2enet.bundle import Bundle
from e2enet.explain.faithfulness import faithfulness
from e2enet.explain.flow import fusion_flow
from e2enet.explain.volumes import Explainer

MODEL = Path(__file__).resolve().parents[3] / "Resources" / "Models" / "hippocampus-mr"


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(Bundle.open(MODEL))


def test_the_flow_has_a_history(explainer):
    flow = fusion_flow(explainer.bundle, explainer.connections)
    assert flow.has_history
    assert flow.records[0]["iteration"] == 0
    assert flow.end["iteration"] == flow.total_iterations
    # Evolution never changes how many connections are alive.
    assert {record["live"] for record in flow.records} == {explainer.connections.live}


def test_deleting_what_is_important_costs_more_than_chance(explainer, shared):
    data = shared / "data" / "Dataset004_Hippocampus"
    check = faithfulness(
        explainer, data / "imagesTs", data / "labelsTs", count=1, fractions=(0.2,), seeds=1
    )
    assert check.intact[0] > 0.8
    important = check.mean("importance-high", 0.2)
    assert important > check.mean("random", 0.2) + 0.1
    assert important > check.mean("importance-low", 0.2) + 0.1
