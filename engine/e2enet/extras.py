"""What is installed beside the base: the one sentence that says what is missing."""

from __future__ import annotations

import importlib.util
import sys

from e2enet.events import BadInput

TORCH_HELP = "pip install 'e2enet[torch]', or 'e2enet[train]' to train as well"


def has_torch() -> bool:
    """Whether PyTorch is installed, found without importing it."""
    if "torch" in sys.modules:
        return sys.modules["torch"] is not None
    try:
        return importlib.util.find_spec("torch") is not None
    except (ImportError, ValueError):
        return False


def need_package(name: str, extra: str, what: str) -> None:
    """Refuse what cannot be done without a package of an extra.

    Args:
        name: Of the package, as it is imported; it is not imported here.
        extra: Of ours that brings it.
        what: Begins the sentence: "Writing DICOM SEG".

    Raises:
        BadInput: The package is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise BadInput(
            f"{what} needs {name}, which is not installed.",
            help=f"pip install 'e2enet[{extra}]'",
            code="no-package",
        )


def need_torch(what: str) -> None:
    """Refuse what cannot be done without PyTorch.

    Args:
        what: Begins the sentence: "Training", "The device cuda".

    Raises:
        BadInput: PyTorch is not installed.
    """
    if not has_torch():
        raise BadInput(
            f"{what} needs PyTorch, which is not installed.", help=TORCH_HELP, code="no-torch"
        )
