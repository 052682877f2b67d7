"""Every public class, function and property of the engine says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "engine" / "e2enet"
# Described once, by the class that these override: `Reporter`, and PyTorch's `nn.Module`.
OVERRIDES = {"progress", "metric", "result", "warning", "error", "forward"}


def undocumented(body: list[ast.stmt], inside: str = "") -> Iterator[tuple[int, str]]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not (inside and node.name in OVERRIDES):
            yield node.lineno, inside + node.name
        # The members of a protocol are what its docstring says.
        if isinstance(node, ast.ClassDef) and "Protocol" not in map(ast.unparse, node.bases):
            yield from undocumented(node.body, f"{node.name}.")


def test_everything_public_has_a_docstring() -> None:
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(PACKAGE)
        missing += [f"{where}:{line} {name}" for line, name in undocumented(tree.body)]
        if not ast.get_docstring(tree):
            missing.append(str(where))
    assert not missing, "\n".join(missing)
