from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2enet.cli.app import app
from typer.testing import CliRunner, Result


@pytest.fixture(autouse=True)
def _own_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def profile(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["profile", *arguments], env={"COLUMNS": "80"})


def as_json(*arguments: str) -> dict[str, Any]:
    result = profile("--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_papers_network_by_default() -> None:
    counted = as_json()
    total = counted["total"]
    assert counted["patch"] == [64, 160, 160]
    assert counted["sparsity"] == 0.8
    assert round(total["parameters"] / 1e6, 2) == 23.90
    assert round(total["live_parameters"] / 1e6, 2) == 9.45
    assert round(total["multiply_adds"] / 1e9, 1) == 790.9
    assert sum(layer["parameters"] for layer in counted["layers"]) == total["parameters"]


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ("--preset paper --sparsity 0.7", 11.23),
        ("--preset paper", 9.45),
        ("--preset paper --sparsity 0.9", 7.66),
        ("--preset paper --sparsity 0", 23.90),
        ("--sparsity 0.9 --level0-density 0.2", 7.66),
        ("--sparsity 0.7", 11.25),
        ("--sparsity 0.9", 7.64),
    ],
)
def test_the_published_counts(options: str, millions: float) -> None:
    total = as_json(*options.split())["total"]
    assert round(total["live_parameters"] / 1e6, 2) == millions


def test_the_table_has_units_every_part_and_a_total_and_fits_80_columns() -> None:
    result = profile("--patch", "64x128x128")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    text = result.stdout
    assert result.exit_code == 0
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for word in ("parameters", "multiply-adds", "dense", "live", "(M)", "(G)", "(%)"):
        assert word in text
    named = [line.split("  ")[0].strip() for line in lines]
    for part in ("backbone", "fusion stage 5", "upward convolutions", "heads", "total"):
        assert part in named
    (total,) = [line.split() for line in lines if line.strip().startswith("total")]
    assert total == ["total", "23.90", "9.45", "39.5", "506.18", "142.28", "28.1"]


def test_a_dense_network_is_all_alive() -> None:
    counted = as_json(
        "--sparsity", "0", "--levels", "3", "--base-channels", "4", "--classes", "2",
        "--in-channels", "2", "--patch", "8x8x8",
    )  # fmt: skip
    assert counted["live_connections"] == counted["connections"]
    assert counted["total"]["live_parameters"] == counted["total"]["parameters"]
    assert counted["network"]["in_channels"] == 2


def test_strides() -> None:
    counted = as_json("--strides", "1x2x2 2,2,2", "--base-channels", "4", "--patch", "4×8×8")
    assert counted["network"]["strides"] == [[1, 2, 2], [2, 2, 2]]


def test_a_model_by_path(tiny_bundle: Path) -> None:
    counted = as_json("--model", str(tiny_bundle))
    assert counted["model"] == "tiny"
    assert counted["patch"] == [16, 16, 16]
    assert counted["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert counted["live_connections"] < counted["connections"]
    assert as_json("--model", str(tiny_bundle), "--patch", "8x8x8")["patch"] == [8, 8, 8]
    assert "tiny" in profile("--model", str(tiny_bundle)).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--patch", "64x160"], "64x160"),
        (["--patch", "0x32x32"], "three whole numbers"),
        (["--patch", "64x160x150"], "(64, 160, 160)"),
        (["--sparsity", "1"], "sparsity"),
        (["--sparsity", "-0.5"], "sparsity"),
        (["--level0-density", "2"], "level0_density"),
        (["--strides", "2x2"], "--strides"),
        (["--strides", "2x2x2", "--levels", "5"], "2 levels"),
        (["--model", "nobody"], "nobody"),
        (["--classes", "0"], "classes"),
    ],
)
def test_bad_options_end_with_status_2_and_a_sentence(arguments: list[str], said: str) -> None:
    result = profile("--json", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        (("--network", "omnia"), 5.84),
        (("--network", "dx"), 12.53),
        (("--network", "ds", "--encoder", "resnet10"), None),
        (("--encoder", "resnet10", "--base-channels", "8"), None),
    ],
)
def test_networks_with_an_encoder(options: tuple[str, ...], millions: float | None) -> None:
    counted = as_json(*options, "--patch", "32x64x64")
    total = counted["total"]
    if millions:
        assert round(total["parameters"] / 1e6, 2) == millions
    lives = "--network" not in options
    assert (total["live_parameters"] < total["parameters"]) is lives
    assert counted["sparsity"] == (0.8 if lives else 0)
    assert sum(part["multiply_adds"] for part in counted["parts"]) == total["multiply_adds"]


def test_an_encoder_or_a_network_that_does_not_exist() -> None:
    for options, word in (
        (("--network", "unet"), "omnia"),
        (("--network", "dx", "--encoder", "resnet51"), "resnet50"),
    ):
        result = profile(*options)
        assert result.exit_code == 2
        assert word in result.stderr
