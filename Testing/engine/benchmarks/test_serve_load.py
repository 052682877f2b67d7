"""The load test, small: a few clients and a restart lose nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "engine" / "benchmarks" / "serve_load.py"


def test_a_few_clients_and_a_restart(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("serve_load", SCRIPT)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "serve_load", script)
    spec.loader.exec_module(script)
    monkeypatch.setenv("E2ENET_MODELS", str(tiny_bundle.parent))
    told = script.load(4, restart=True, model="tiny", device="cpu")
    assert told["lost"] == []
    assert told["jobs"] == 4
    assert told["times_s"]["job"]["count"] == 4
