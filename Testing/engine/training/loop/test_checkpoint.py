"""Checkpoints come back as they were, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from e2enet.events import BadInput
from e2enet.training.loop.checkpoint import load_checkpoint, save_checkpoint

from ..conftest import assert_same

STATE = {
    "iteration": 7,
    "loss": [0.1, 1 / 3, float("inf")],
    "none": None,
    "network": {"a.weight": torch.randn(3, 2), "mask": torch.tensor([True, False])},
    "random": {"state": torch.Generator().get_state()},
    "list": [torch.tensor(2.5), {"deep": torch.arange(3)}],
    "empty": {},
}


def test_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", STATE)
    assert_same(load_checkpoint(tmp_path / "c"), STATE)
    assert os.listdir(tmp_path) == ["c"]


def test_views_and_shared_memory_can_be_saved(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    save_checkpoint(tmp_path / "c", {"a": whole, "b": whole.T, "c": whole[1]})
    assert_same(load_checkpoint(tmp_path / "c"), {"a": whole, "b": whole.T, "c": whole[1]})


def test_a_failing_write_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "c", STATE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="No space left on device") as caught:
        save_checkpoint(tmp_path / "c", {"iteration": 8})
    assert "--resume" in caught.value.help
    assert_same(load_checkpoint(tmp_path / "c"), STATE)
    assert os.listdir(tmp_path) == ["c"]


def test_a_write_that_never_ended_is_not_seen(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", STATE)
    (tmp_path / ".c.part").write_bytes(b"half of a checkpo")
    assert_same(load_checkpoint(tmp_path / "c"), STATE)
    save_checkpoint(tmp_path / "c", {"iteration": 9})
    assert load_checkpoint(tmp_path / "c") == {"iteration": 9}
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize("damage", ["missing", "short", "noise", "other"])
def test_damage_is_bad_input(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "noise":
        path.write_bytes(b"\x00" * 40)
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_checkpoint(path)


def test_what_is_not_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"object \(a/b\)"):
        save_checkpoint(tmp_path / "c", {"a": {"b": object()}})
