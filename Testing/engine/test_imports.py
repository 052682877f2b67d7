"""Who imports whom: one way between the rooms, no circles between files, one style."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "engine" / "e2enet"
# From the top: a room imports from rooms in later rows only, and never from its neighbours.
ROWS = (
    ("__main__",),
    ("cli",),
    ("service", "cluster"),
    ("explain", "interop"),
    ("training",),
    ("evaluation",),
    ("inference",),
    ("runtime",),
    ("bundle",),
    ("transfer",),
    ("dsff",),
    ("networks",),
    ("data",),
    ("extras", "files", "locks"),
    ("events", "folders", "__init__"),
)
# What the Slicer panel reads before anything is installed.
STANDARD_LIBRARY_ONLY = (
    "e2enet", "e2enet.bundle", "e2enet.bundle.archive", "e2enet.bundle.install",
    "e2enet.bundle.results", "e2enet.events", "e2enet.extras", "e2enet.networks",
    "e2enet.networks.lattice", "e2enet.files", "e2enet.folders",
)  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
# The package's own door leads to the rooms, but only when somebody goes through it.
DOOR = "e2enet"


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and module of the package for every import in a file, lazy ones and types included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            base = node.module or ""
            # `from package import module` reads the module, not the package.
            targets = {f"{base}.{alias.name}" for alias in node.names}
            found += [(node.lineno, t if t in MODULES else base) for t in targets]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
    return sorted({(line, name) for line, name in found if name.split(".")[0] == "e2enet"})


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_rooms_import_one_way() -> None:
    row = {name: number for number, names in enumerate(ROWS) for name in names}
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {target}"
        for module, path in MODULES.items()
        if module != DOOR
        for line, target in imports(path)
        if room(target) != room(module) and row[room(target)] <= row[room(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_files_import_in_no_circle() -> None:
    graph = {
        module: {target for _, target in imports(path)} - {module}
        for module, path in MODULES.items()
        if module != DOOR
    }
    # Found by their files, without an import that could be read here.
    graph["e2enet.cli.app"] |= {name for name in MODULES if re.match(r"e2enet\.cli\..+", name)}
    graph["e2enet.cli.app"] -= {"e2enet.cli.app"}
    assert len(graph) > 100
    TopologicalSorter(graph).prepare()  # a circle raises CycleError, which names it


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_what_the_panel_reads_needs_no_package(module: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import {module}"
    # -S: without site-packages; -I: without our environment.
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
