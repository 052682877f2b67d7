"""Fills what pages take from the engine's source: the messages it can end with, its functions.

The source is read, never imported: the site is built where the engine is not installed.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "engine" / "e2enet"
DOOR = PACKAGE / "__init__.py"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs for every page."""
    for mark, table in (("<!-- messages -->", messages), ("<!-- functions -->", functions)):
        if mark in markdown:
            markdown = markdown.replace(mark, table())
    return markdown


def messages() -> str:
    """A table of every BadInput in the source: code, sentence, what helps."""
    trees = [_parsed(path) for path in sorted(PACKAGE.rglob("*.py"))]
    rows = {row for tree in trees for row in _of_tree(tree, trees)}
    lines = ["| code | message | what helps |", "| --- | --- | --- |"]
    lines += [
        f"| `{code}` | {_cell(message)} | {_cell(help)} |" for code, message, help in sorted(rows)
    ]
    return "\n".join(lines)


def functions() -> str:
    """Signature and docstring of what `e2enet` itself offers."""
    homes = next(
        ast.literal_eval(node.value)
        for node in ast.parse(DOOR.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_HOMES"  # type: ignore[attr-defined]
    )
    parts = []
    for name, home in homes.items():
        node = _definition(name, home)
        if node is None:
            continue
        if isinstance(node, ast.FunctionDef):
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            signature = f"{name}({ast.unparse(node.args)}){returns}"
        else:
            signature = f"class {name}"
        text = inspect.cleandoc(ast.get_docstring(node) or "")
        parts.append(f"## `{name}`\n\n```python\n{signature}\n```\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _definition(name: str, home: str) -> ast.FunctionDef | ast.ClassDef | None:
    path = PACKAGE.parent.joinpath(*home.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return _definition(name, node.module or "")
    return None


def _parsed(path: Path) -> ast.Module:
    """A file's tree, with the texts that it gives a name in the place of their names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }

    class Inlined(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return texts.get(node.id, node) if isinstance(node.ctx, ast.Load) else node

    return Inlined().visit(tree)  # type: ignore[no-any-return]


def _of_tree(tree: ast.Module, trees: list[ast.Module]) -> Iterator[tuple[str, str, str]]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for call in _calls(tree, _ERRORS):
        keywords = {word.arg: word.value for word in call.keywords}
        message = _text(call.args[0]) if call.args else "…"
        code = _text(keywords["code"]) if "code" in keywords else "bad-input"
        help = _text(keywords["help"]) if "help" in keywords else ""
        if code == "…":
            continue  # one that is passed on
        if message.strip("… .:"):
            yield code, message, help
            continue
        # The sentence is that of whoever calls the function that this stands in.
        around = [one.name for one in functions if one.lineno <= call.lineno <= _end(one)]
        for other in trees if around and not around[-1].startswith("_") else [tree]:
            for caller in _calls(other, around[-1:]):
                said = [_text(part) for part in caller.args]
                sentence = " ".join(s for s in said if s.strip("… "))
                if sentence:
                    yield code, f"… {sentence.removeprefix('… ')}", help
    for base in ast.walk(tree):  # errors of their own kind say their sentence where they are raised
        if isinstance(base, ast.ClassDef) and "BadInput" in {ast.unparse(b) for b in base.bases}:
            codes = re.findall(r"code='([a-z-]+)'", ast.unparse(base))
            for caller in _calls(tree, [base.name]):
                for code in codes:
                    helps = [word.value for word in caller.keywords if word.arg == "help"]
                    yield code, _text(caller.args[0]), _text(helps[0]) if helps else ""


_ERRORS = ("BadInput",)


def _calls(tree: ast.Module, names: Sequence[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
            yield node


def _end(node: ast.FunctionDef) -> int:
    return node.end_lineno or node.lineno


def _text(node: ast.expr) -> str:
    """A string of the source; what is filled in while it runs becomes an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body) or _text(node.orelse)
    return "…"


def _cell(text: str) -> str:
    for character in "\\|<>*_`":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return " ".join(text.split())
