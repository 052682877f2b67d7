"""Arrays beyond the budget lie in a file that nobody has to remove."""

from __future__ import annotations

import errno
import os
import tempfile

import numpy as np
import pytest
from e2enet.events import BadInput
from e2enet.inference.sliding_window.spill import zeros


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_zeros_are_zero_and_writable(budget, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = zeros((3, 4), np.float32, budget=budget)
    assert isinstance(array, np.memmap) == (budget == 0)
    assert not array.any()
    array[1] = 2
    assert array.sum() == 8
    if os.name == "posix":
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_a_full_disk_is_said(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadInput, match="temporary space") as caught:
        zeros((1000,), np.float32, budget=0)
    assert caught.value.code == "disk-full"
