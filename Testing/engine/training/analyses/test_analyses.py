"""A sweep over two tiny models and the learning curves of their runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.training.analyses.convergence import convergence
from e2enet.training.analyses.sweep import sweep
from PIL import Image

SMALL = {
    "epochs": 2, "iterations_per_epoch": 2, "base_channels": 4, "levels": 2,
    "patch": (16, 16, 16), "batch_size": 2, "evolve_every": 1, "device": "cpu", "workers": 0,
}  # fmt: skip


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def is_drawn(path: Path) -> bool:
    return bool(np.asarray(Image.open(path).convert("L")).std() > 5)


@pytest.fixture(scope="module")
def swept(tiny_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, sweep(tiny_dataset, folder, "sparsity", [0.0, 0.5], **SMALL)


def test_a_sweep(swept, tiny_dataset):
    folder, points = swept
    rows = table(folder / "sweep.csv")
    assert [row["sparsity"] for row in rows] == ["0.0", "0.5"]
    for point, row in zip(points, rows, strict=True):
        bundle = Bundle.open(folder / f"sparsity-{point.value}-seed0")
        scores = bundle.model["provenance"]["metrics"]["dice"]
        known = [value for value in scores.values() if value is not None]
        assert float(row["dice"]) == pytest.approx(sum(known) / len(known))
        network, connections = bundle.load_network()
        dead = sum(
            int((~mask).sum()) * network.get_submodule(name).weight[0, 0].numel()
            for name, mask in connections.masks.items()
        )
        total = sum(parameter.numel() for parameter in network.parameters())
        assert point.live_parameters == total - dead
    assert points[0].live_multiply_adds > points[1].live_multiply_adds
    assert is_drawn(folder / "sweep.png")
    before = (folder / "sparsity-0.5-seed0" / "weights.safetensors").stat().st_mtime_ns
    assert sweep(tiny_dataset, folder, "sparsity", [0.0, 0.5], **SMALL) == points
    assert (folder / "sparsity-0.5-seed0" / "weights.safetensors").stat().st_mtime_ns == before


def test_convergence(swept, tmp_path):
    runs = sorted(swept[0].glob("*.run"))
    found = convergence(runs, tmp_path / "out")
    assert set(found) == {"sparsity-0.0-seed0", "sparsity-0.5-seed0"}
    rows = found["sparsity-0.5-seed0"]
    assert [row["iteration"] for row in rows] == [2, 4]
    assert rows[-1]["evolutions"] > rows[0]["evolutions"] > 0
    assert {row["evolutions"] for row in found["sparsity-0.0-seed0"]} == {0}
    assert len(table(tmp_path / "out" / "convergence.csv")) == 4
    assert is_drawn(tmp_path / "out" / "convergence.png")


def test_what_cannot_be_drawn(swept, tmp_path):
    run = next(swept[0].glob("*.run"))
    with pytest.raises(BadInput, match="Two of the runs"):
        convergence([run, run], tmp_path / "out")
    with pytest.raises(BadInput, match="holds no checkpoint"):
        convergence([tmp_path], tmp_path / "out")
    with pytest.raises(BadInput, match="exists"):
        convergence([run], tmp_path)


def test_methods_differ_in_what_they_are_named_for(tiny_dataset, tmp_path):
    options = {**SMALL, "epochs": 1, "sparsity": 0.5}
    points = sweep(tiny_dataset, tmp_path / "out", "method", ["dense", "static", "dsff"], **options)
    live = {point.value: point.live_parameters for point in points}
    assert live["dense"] > live["static"] == live["dsff"]
    found = convergence(sorted((tmp_path / "out").glob("*.run")), tmp_path / "curves")
    evolutions = {name.split("-")[1]: rows[-1]["evolutions"] for name, rows in found.items()}
    assert evolutions["dense"] == evolutions["static"] == 0
    assert evolutions["dsff"] > 0
    with pytest.raises(BadInput, match="no method sparse"):
        sweep(tiny_dataset, tmp_path / "none", "method", ["dense", "sparse"])


def test_a_model_to_start_from_keeps_its_own_network(swept, tiny_dataset, tmp_path):
    """The width that is given is for what starts from scratch."""
    model = swept[0] / "sparsity-0.5-seed0"
    options = {**SMALL, "epochs": 1, "base_channels": 6, "sparsity": 0.8}
    sweep(tiny_dataset, tmp_path / "out", "base", [None, model], **options)
    widths = {
        path.name: Bundle.open(path).model["network"]["arguments"]["base_channels"]
        for path in (tmp_path / "out").glob("base-*-seed0")
    }
    assert widths == {"base-scratch-seed0": 6, f"base-{model.name}-seed0": 4}


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5]])
def test_a_sweep_of_one_value(tiny_dataset, tmp_path, values):
    with pytest.raises(BadInput, match="two different values"):
        sweep(tiny_dataset, tmp_path / "out", "sparsity", values)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "values", "more", "message"),
    [
        ("sparsity", [0.5, 1.5], {}, "--sparsity is 1.5"),
        ("shift_groups", [1, 0], {}, "--shift-groups is 0"),
        ("base", [None, "no-such-model"], {}, "no-such-model"),
        ("sparsity", [0.0, 0.5], {"seeds": [0, 0]}, "different seeds"),
        ("sparsity", [0.0, 0.5], {"seeds": [-1]}, "--seed is -1"),
        ("sparsity", [0.0, 0.5], {"fold": "all"}, "holds none out"),
    ],
)
def test_what_can_be_refused_is_refused_before_anything_is_trained(
    setting, values, more, message, tiny_dataset, tmp_path
):
    with pytest.raises(BadInput, match=message):
        sweep(tiny_dataset, tmp_path / "out", setting, values, **{**SMALL, **more})
    assert not (tmp_path / "out").exists()
