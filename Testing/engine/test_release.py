"""What has to say the same in several places when a version goes out."""

from __future__ import annotations

import re
from pathlib import Path

import e2enet

REPOSITORY = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    cited = re.search(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE)
    assert cited
    assert cited[1] == e2enet.__version__
    released = re.findall(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), re.MULTILINE)
    # Before the first release there is only what is to come.
    assert not released or released[0] == e2enet.__version__


def test_the_workflow_runs_what_the_makefile_runs() -> None:
    workflow = read(".github/workflows/test.yml")
    assert "run: .ci/run" in workflow
    assert "make test" in read(".ci/run")
    recipes = read("Makefile")
    assert "run: make lint" in workflow
    assert re.search(r"^lint:", recipes, re.MULTILINE)
    # Windows has no make: the commands are written out, and have to be the Makefile's.
    assert "-c engine/constraints.txt" in recipes
    assert '-e "./engine[test,docs]"' in workflow
    assert "'./engine[test,docs]'" in recipes
