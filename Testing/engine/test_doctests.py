"""The examples in the docstrings run and say what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil

import e2enet
import pytest

MODULES = [
    module.name
    for module in pkgutil.walk_packages(e2enet.__path__, "e2enet.")
    if module.name != "e2enet.__main__"  # runs the command line
]


def examples() -> list[str]:
    """Modules whose source holds an example; the others need not be imported."""
    found = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        assert spec
        assert spec.origin
        with open(spec.origin, encoding="utf-8") as source:
            if ">>>" in source.read():
                found.append(name)
    return found


@pytest.mark.parametrize("name", examples())
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0
