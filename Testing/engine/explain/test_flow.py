"""Fusion flow against a lattice whose connections are counted by hand."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import e2enet
import pytest
import torch
from e2enet.bundle import Bundle, write_bundle
from e2enet.dsff import Connections, Evolution
from e2enet.events import BadInput, Reporter
from e2enet.explain.flow import fusion_flow, recorded_flow
from e2enet.networks import E2ENet

ENGINE = str(Path(e2enet.__file__).parents[1])


class Heard(Reporter):
    def __init__(self):
        self.warnings = []

    def warning(self, code, message):
        self.warnings.append((code, message))


def counted_by_hand(tmp_path, tiny_bundle):
    """Three levels of 2, 4 and 8 maps, every live weight 0.5: a fusion kernel has an L1 of 4.5."""
    network = E2ENet(1, 3, [(2, 2, 2)] * 2, base_channels=2)
    connections = Connections.dense(network)
    masks = connections.masks
    for mask in masks.values():
        mask[:] = False
    # Node 1:1 reads 4 forward, 8 -> 4 upward and 2 downward maps: 0-3, 4-7 and 8-9.
    for o, c in [(0, 0), (1, 3), (2, 5), (3, 8), (3, 9), (0, 9)]:
        masks["nodes.1_1.0.conv"][o, c] = True
    # Node 1:0 reads 2 forward and 2 upward maps; it has no downward ones.
    masks["nodes.1_0.0.conv"][0, 1] = True
    masks["nodes.1_0.0.conv"][1, 3] = True
    masks["nodes.1_0.0.conv"][0, 2] = True
    masks["nodes.1_0.0.conv"][0, 3] = True
    masks["nodes.1_1.1.conv"][:] = True  # a second block: counts nowhere
    masks["ups.1_1"][3, 1] = True
    masks["ups.1_1"][7, 0] = True
    for name, layer in connections.layers.items():
        with torch.no_grad():
            layer.weight.fill_(0.5)
            if name == "nodes.1_1.0.conv":
                layer.weight[3, 8:] = -1.0
    connections.apply()
    content = json.loads((tiny_bundle / "model.json").read_text(encoding="utf-8"))
    model = {k: content[k] for k in ("name", "plan", "labels", "channels")}
    return write_bundle(
        tmp_path / "hand",
        network=network,
        connections=connections,
        model=model,
        history={"history": []},
        readme="",
    )


def node_of(record, stage, level):
    return next(n for n in record["nodes"] if (n["stage"], n["level"]) == (stage, level))


def test_shares_are_as_counted_by_hand(tmp_path, tiny_bundle):
    flow = fusion_flow(counted_by_hand(tmp_path, tiny_bundle))
    assert flow.levels == 3
    node = node_of(flow.end, 1, 1)
    assert {d: (v["live"], v["possible"]) for d, v in node["flows"].items()} == {
        "forward": (2, 16),
        "upward": (1, 16),
        "downward": (3, 8),
    }
    assert {d: v["share"] for d, v in node["flows"].items()} == pytest.approx(
        {"forward": 2 / 6, "upward": 1 / 6, "downward": 3 / 6}, abs=1e-6
    )
    # 4.5 a kernel, but 9 for the two of output 3: 9, 4.5 and 22.5 of 36.
    assert {d: v["l1"] for d, v in node["flows"].items()} == pytest.approx(
        {"forward": 9, "upward": 4.5, "downward": 22.5}
    )
    assert node["flows"]["downward"]["l1_share"] == pytest.approx(22.5 / 36)
    assert node["flows"]["downward"]["density"] == pytest.approx(3 / 8)
    # A transposed kernel has 8 weights of 0.5.
    assert node["up_kernels"] == {"live": 2, "possible": 32, "density": 0.0625, "l1": 8.0}


def test_level_0_has_no_downward_flow(tmp_path, tiny_bundle):
    flow = fusion_flow(counted_by_hand(tmp_path, tiny_bundle))
    node = node_of(flow.end, 1, 0)
    assert list(node["flows"]) == ["forward", "upward"]
    assert node["flows"]["forward"]["share"] == 0.25


def test_a_node_without_any_connection_has_shares_of_0(tmp_path, tiny_bundle):
    flow = fusion_flow(counted_by_hand(tmp_path, tiny_bundle))
    node = node_of(flow.end, 2, 0)
    assert {v["share"] for v in node["flows"].values()} == {0.0}
    assert {v["l1_share"] for v in node["flows"].values()} == {0.0}


def test_without_history_the_end_is_there_and_a_warning(make_bundle):
    heard = Heard()
    flow = fusion_flow(Bundle.open(make_bundle()), reporter=heard)
    assert not flow.has_history
    assert [record["kind"] for record in flow.records] == ["end"]
    assert [code for code, _ in heard.warnings] == ["no-history"]
    assert flow.to_dict()["history"] is False


def test_a_dense_model_takes_everything(make_bundle):
    flow = fusion_flow(Bundle.open(make_bundle(sparsity=0.0)))
    for node in flow.end["nodes"]:
        for values in node["flows"].values():
            assert values["density"] == 1
    node = node_of(flow.end, 1, 1)
    # 8 forward, 8 upward and 4 downward maps.
    assert node["flows"]["downward"]["share"] == pytest.approx(4 / 20)


def evolved(tmp_path, tiny_bundle, *, end=True):
    content = json.loads((tiny_bundle / "model.json").read_text(encoding="utf-8"))
    model = {k: content[k] for k in ("name", "plan", "labels", "channels")}
    model["provenance"] = {"epochs": 4, "iterations": 40}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = E2ENet(1, 3, [(2, 2, 2)] * 2, base_channels=4)
    connections = Connections.random(network, 0.5, seed=3)
    connections.apply()
    evolution = Evolution(connections, total_iterations=40, period=10, seed=3)
    evolution.record()
    for _ in range(40):
        evolution.step()
    if end:
        evolution.record()
    history = {"total_iterations": 40, "period": 10, "history": evolution.history}
    bundle = write_bundle(
        tmp_path / "evolved",
        network=network,
        connections=connections,
        model=model,
        history=history,
        readme="",
    )
    return bundle, evolution


@pytest.mark.parametrize("end", [True, False])
def test_the_history_is_start_evolutions_and_end(tmp_path, tiny_bundle, end):
    bundle, evolution = evolved(tmp_path, tiny_bundle, end=end)
    heard = Heard()
    flow = fusion_flow(bundle, reporter=heard)
    assert not heard.warnings
    kinds = [record["kind"] for record in flow.records]
    assert kinds == ["start", *["evolution"] * (len(kinds) - 2), "end"]
    assert [r["iteration"] for r in flow.records][:3] == [0, 10, 20]
    assert [r["epoch"] for r in flow.records][:3] == [0, 1, 2]
    assert flow.end["live"] == evolution.connections.live
    first = evolution.history[0]["nodes"][0]
    same = node_of(flow.records[0], first["stage"], first["level"])
    assert {d: v["live"] for d, v in same["flows"].items()} == first["connections"]


def test_json_and_csv_say_the_same(tmp_path, tiny_bundle):
    bundle, _ = evolved(tmp_path, tiny_bundle)
    flow = fusion_flow(bundle)
    content = json.loads(json.dumps(flow.to_dict(), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(flow.to_csv())))
    # 3 nodes; those of level 0 have 2 flows, the other 3, and each has its up kernels.
    assert len(rows) == len(content["records"]) * (3 + 3 + 4)
    last = [r for r in rows if r["kind"] == "end" and (r["stage"], r["level"]) == ("1", "1")]
    node = node_of(content["records"][-1], 1, 1)
    for row in last:
        values = node["flows"].get(row["flow"], node["up_kernels"])
        assert int(row["live"]) == values["live"]
        assert float(row["l1"]) == values["l1"]
        assert row["share"] == str(values.get("share", ""))
    assert {row["flow"] for row in last} == {"forward", "upward", "downward", "up_kernels"}


def test_chosen_records_run_from_the_first_to_the_last(tmp_path, tiny_bundle):
    flow = fusion_flow(evolved(tmp_path, tiny_bundle)[0])
    assert len(flow.records) >= 4
    for count in (2, 3, 4):
        chosen = flow.chosen(count)
        assert len(chosen) == count
        assert chosen[0] is flow.records[0]
        assert chosen[-1] is flow.end
    assert flow.chosen(1) == [flow.end]
    assert len(flow.chosen(99)) == len(flow.records)


@pytest.mark.parametrize("read", [fusion_flow, recorded_flow])
def test_a_damaged_history_is_refused(make_bundle, read):
    folder = make_bundle(history={"history": [{"iteration": 0, "live": 1, "total": 2}]})
    with pytest.raises(BadInput) as caught:
        read(Bundle.open(folder))
    assert caught.value.code == "damaged-model"
    assert "evolution.json" in caught.value.message


def test_what_the_training_wrote_down_is_the_flow(tmp_path, tiny_bundle):
    bundle, evolution = evolved(tmp_path, tiny_bundle)
    recorded, whole = recorded_flow(bundle), fusion_flow(bundle)
    assert len(recorded.records) == len(evolution.history)
    assert recorded.records[:-1] == whole.records[:-1]
    assert recorded.end["kind"] == "end"
    assert (recorded.levels, recorded.period) == (whole.levels, whole.period)
    for one, other in zip(recorded.end["nodes"], whole.end["nodes"], strict=True):
        for direction, values in one["flows"].items():
            assert values["share"] == other["flows"][direction]["share"]
            assert values["l1"] == pytest.approx(other["flows"][direction]["l1"], rel=1e-4)


def test_nothing_recorded_is_an_empty_flow(make_bundle):
    flow = recorded_flow(Bundle.open(make_bundle()))
    assert (flow.records, flow.levels) == ([], 0)


def test_the_recorded_flow_needs_only_the_standard_library(tmp_path, tiny_bundle):
    bundle, _ = evolved(tmp_path, tiny_bundle)
    code = (
        "import sys; from e2enet.bundle import Bundle; from e2enet.explain.flow import *;"
        f"print(len(recorded_flow(Bundle.open({str(bundle.path)!r})).records))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({ENGINE!r}); {code}"],
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert found.stdout.strip() == str(len(recorded_flow(bundle).records)), found.stderr
