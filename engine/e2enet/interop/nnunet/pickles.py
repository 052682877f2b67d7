"""A reader for pickles of plain data: numbers, texts, containers and arrays of numbers.

Nothing that a pickle names is imported or called. The few constructors of numpy that plans and
logs hold are answered by stand-ins of our own; any other name refuses the file.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from e2enet.events import BadInput, Cancelled

MAX_BYTES = 256 << 20
_SHARED = 10**6  # values, where a file names one of its lists again and again
_KINDS = "biufSU"  # numbers and texts; never objects
_NUMPY = (
    "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric",
    "numpy._core.numeric",
)  # fmt: skip


def read_plain_pickle(path: Path) -> Any:
    """The content of a pickle that holds nothing but plain data; arrays become numpy's.

    Raises:
        BadInput: It holds anything else, or cannot be read. Nothing of it has been executed.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise pickle.UnpicklingError("it is far too large")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", code="missing-file") from error
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    try:
        # Without sharing, every value takes a byte at least.
        return _plain(_Reader(io.BytesIO(content)).load(), max(len(content), _SHARED))
    except (BadInput, Cancelled):
        raise
    except Exception as error:  # a made file can raise anything while it is read
        raise _refused(path, error) from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module in _NUMPY and name in _STAND_INS:
            return _STAND_INS[name]
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return frozenset
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


class _Type:
    """In the place of numpy.dtype."""

    def __init__(self, text: Any = "", *_flags: Any) -> None:
        self.text, self.order = str(text), "="

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">", "=", "|"):
            self.order = state[1]

    def real(self) -> np.dtype:
        """The type, if it is one of plain numbers or texts."""
        found = np.dtype(self.text)
        if found.kind not in _KINDS or found.hasobject:
            raise pickle.UnpicklingError(f"it holds an array of {self.text}")
        return found.newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """In the place of an array that is being read."""

    def __init__(self, *_made: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, by_column, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array of objects")
        flat = np.frombuffer(content, kind.real())
        self.value = flat.reshape(tuple(shape), order="F" if by_column else "C").copy()


def _frombuffer(content: Any, kind: Any, shape: Any, order: str) -> _Array:
    """What arrays are since protocol 5."""
    made = _Array()
    made.__setstate__((1, shape, kind, order == "F", bytes(content)))
    return made


class _Name:
    """In the place of numpy.ndarray, which is only named."""


def _scalar(kind: Any, content: Any = b"") -> Any:
    if not isinstance(kind, _Type) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("it holds a scalar object")
    return np.frombuffer(content, kind.real())[0]


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


_STAND_INS = {
    "_reconstruct": _Array,
    "_frombuffer": _frombuffer,
    "scalar": _scalar,
    "dtype": _Type,
    "ndarray": _Name,
}


def _plain(content: Any, most: int) -> Any:
    """The content with arrays in the place of their stand-ins.

    Lists that hold the same list twice, which holds the same list twice, and so on, are few bytes
    and more values than anybody can walk through: more than `most` are refused.
    """
    count = 0

    def plain(value: Any) -> Any:
        nonlocal count
        count += 1
        if count > most:
            raise pickle.UnpicklingError("its lists hold each other again and again")
        if isinstance(value, _Array):
            return value.value
        if isinstance(value, dict):
            return {plain(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(plain(v) for v in value)
        if isinstance(value, (_Type, _Name, type)):
            return None
        return value

    return plain(content)


def _refused(path: Path, error: BaseException) -> BadInput:
    text = str(error).rstrip(".") or type(error).__name__
    return BadInput(
        f"{path.name} is no pickle of plain data: {text}.",
        help="Only plans and checkpoints as nnU-Net writes them are read; nothing was executed.",
        code="unsafe-pickle",
    )
