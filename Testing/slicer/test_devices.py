"""Graphics cards: asked for once, without a wait."""

import os
import sys
import time

import pytest
from E2ENetSegmentationLib.engine import devices
from harness.host import FakeHost


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """Call it with the lines of an nvidia-smi that says them; returns how often it was run."""
    monkeypatch.setattr(devices, "_question", devices._Question())
    monkeypatch.setattr(devices, "hasApple", lambda: False)

    def install(body):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    yield install
    process = devices._question._process
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()


posix = pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")


def test_names_and_numbers():
    listing = "GPU 0: NVIDIA RTX A4000 (UUID: GPU-1)\nGPU 1: NVIDIA T4 (UUID: GPU-2)\n"
    assert devices.parseNvidia(listing) == [
        ("NVIDIA RTX A4000 (0)", "cuda:0"),
        ("NVIDIA T4 (1)", "cuda:1"),
    ]
    assert devices.parseNvidia("GPU 0: NVIDIA T4 (UUID: GPU-2)") == [("NVIDIA T4", "cuda:0")]
    assert [value for _name, value in devices.devices()][:2] == ["auto", "cpu"]


@posix
def test_slow_nvidia_smi_holds_nobody_up(nvidia, tmp_path):
    nvidia("sleep 1\necho 'GPU 0: NVIDIA T4 (UUID: GPU-2)'")
    host, told = FakeHost(), []
    start = time.monotonic()
    devices.whenKnown(host, lambda: told.append(devices.devices()))
    for _again in range(20):
        assert devices.devices() == [("Automatic", "auto"), ("CPU", "cpu")]
    assert time.monotonic() - start < 0.9  # it answers after a second
    assert told == []
    host.pump(lambda: told, 20)
    assert told[0][2:] == [("NVIDIA T4", "cuda:0")]
    assert not host.timers[0].active
    assert devices.hasNvidia()
    assert (tmp_path / "runs").read_text().split() == ["run"]


@posix
@pytest.mark.parametrize("body", ["exit 9", "echo No devices were found"])
def test_driver_without_a_card(nvidia, body):
    nvidia(body)
    host, told = FakeHost(), []
    devices.whenKnown(host, lambda: told.append(1))
    host.pump(lambda: told, 20)
    assert not devices.hasNvidia()


@posix
def test_driver_that_hangs_is_given_up(nvidia, monkeypatch):
    monkeypatch.setattr(devices, "PATIENCE", 0.2)
    nvidia("exec sleep 600")
    host, told = FakeHost(), []
    devices.whenKnown(host, lambda: told.append(1))
    host.pump(lambda: told, 20)
    assert devices._question._process.wait(10) != 0
