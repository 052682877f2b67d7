"""The Dockerfile: what it copies is enough, and its steps install what the README does.

No container engine is at hand in the tests; the steps run in a folder and an environment.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def test_its_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "engine" / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    named = re.findall(r"--build-arg EXTRAS=([\w,]+)", DOCKERFILE)
    assert named
    assert {one for text in named for one in text.split(",")} <= set(extras)
    # An extra that names another one names one that there is.
    inner = re.findall(r"e2enet\[([\w,]+)\]", str(extras))
    assert {one for text in inner for one in text.split(",")} <= set(extras)


@pytest.mark.parametrize("extras", ["", "torch,dicom"])
def test_its_steps_in_a_folder(tmp_path: Path, extras: str) -> None:
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
            if line.startswith("!")]  # fmt: skip
    left = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for source, target in re.findall(r"^COPY (\S+) /(source/\S+)$", DOCKERFILE, re.MULTILINE):
        assert source in kept
        shutil.copytree(REPOSITORY / source, tmp_path / target, ignore=left)
    step = DOCKERFILE.split("\nRUN ")[1].split("&&")[0].replace("\\\n", " ")
    assert step.startswith("pip install ")
    shown = step.replace("pip", "echo", 1).replace("/source/", f"{tmp_path}/source/").rstrip("\\ ")
    said = subprocess.run(
        ["sh", "-c", shown], env={"EXTRAS": extras, "TORCH_INDEX": "INDEX"}, check=True,
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    wanted = f"{tmp_path}/source/engine" + (f"[{extras}]" if extras else "")
    assert said == ["install", "--no-cache-dir", "--extra-index-url", "INDEX", wanted]
    # That installs from what was copied, models included; what it needs is here already.
    options = [
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(tmp_path / "site"),
    ]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *options, wanted],
        check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "site" / "e2enet" / "models" / "hippocampus-mr" / "model.json").is_file()
