"""Whether a training fits, and what is said when it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from e2enet.data.axes import parse_sizes
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput
from e2enet.training.run import memory
from e2enet.training.run.memory import budget_gb, check_memory, free_bytes, needed_bytes

from ...conftest import tiny_model

CPU = torch.device("cpu")
NETWORK = {"in_channels": 1, "num_classes": 5, "base_channels": 48}


@pytest.fixture
def plan() -> Plan:
    record = {**tiny_model()["plan"], "patch": [32, 128, 128], "batch_size": 4}
    return Plan.from_dict(record)


def refused(plan: Plan, gb: float, **more: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        check_memory(plan, NETWORK, device=CPU, workers=0, cases=9, memory_gb=gb, **more)
    assert caught.value.code == "too-little-memory"
    return caught.value


def test_what_fits_is_told_and_let_through(plan: Plan) -> None:
    need = check_memory(plan, NETWORK, device=CPU, workers=0, cases=9, memory_gb=1000)
    assert need == needed_bytes(plan, NETWORK, mixed=False, workers=0, cases=9)
    more = needed_bytes(plan, NETWORK, mixed=False, workers=3, cases=9)
    assert more > need


@pytest.mark.parametrize("share", [0.9, 0.55, 0.3])
def test_what_is_suggested_fits(plan: Plan, share: float) -> None:
    need = needed_bytes(plan, NETWORK, mixed=False, workers=0, cases=9) / 2**30
    error = refused(plan, share * need)
    assert f"needs about {need:.1f} GB, but {share * need:.1f} GB may be used" in error.message
    choices = error.help.split(". ")[0].removeprefix("Choose ").split(", or ")
    assert choices
    for choice in choices:
        words = dict(re.findall(r"(--[a-z-]+) ([\d,]+)", choice))
        changed = replace(
            plan,
            batch_size=int(words.get("--batch-size", plan.batch_size)),
            patch=parse_sizes(words["--patch"], "") if "--patch" in words else plan.patch,
        )
        assert Plan.from_dict(changed.to_dict()) == changed
        width = {"base_channels": int(words.get("--base-channels", 48))}
        check_memory(
            changed, {**NETWORK, **width}, device=CPU, workers=0, cases=9, memory_gb=share * need
        )


def test_what_can_no_longer_be_chosen_is_not_suggested(plan: Plan) -> None:
    need = needed_bytes(plan, NETWORK, mixed=False, workers=0, cases=9) / 2**30
    assert "--base-channels" not in refused(plan, need / 2, width=False).help
    assert "--batch-size" in refused(plan, need / 2, width=False).help
    assert refused(plan, need / 2, changeable=False).help.startswith("Close other programs.")
    assert refused(plan, 0.01).help.startswith("Close other programs.")


def test_what_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget_gb(CPU, 3.5) == 3.5
    for free, gb in ((8, 7.2), (100, 12)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free * 2.0**30)
        assert budget_gb(CPU, None) == pytest.approx(gb)


def test_what_is_free_on_this_machine() -> None:
    free = free_bytes(CPU)
    assert free > 100 * 2**20
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        total = 1024 * int(meminfo.read_text(encoding="utf-8").split("MemTotal:")[1].split()[0])
        assert free <= total


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts(tmp_path: Path, version: int) -> None:
    names = ("memory.max", "memory.current", "memory.stat")
    folder = tmp_path
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
        folder = tmp_path / "memory"
        folder.mkdir()
    assert memory._container_free(tmp_path) == float("inf")
    for name, text in zip(names, ("4000", "3000", "anon 5\ninactive_file 500\n"), strict=True):
        (folder / name).write_text(text)
    assert memory._container_free(tmp_path) == 1500
    (folder / names[0]).write_text("max" if version == 2 else str(2**63 - 4096))
    assert memory._container_free(tmp_path) == float("inf")
