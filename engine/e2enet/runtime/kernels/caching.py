"""Compiled kernels on disk, in a folder of the user's."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.runtime import rtsys

from e2enet.folders import cache_folder


class _Locator(CompileResultCacheImpl._locator_classes[0]):  # type: ignore[misc]
    """The folder of `kernel_folder`; where it may be read but not written, somebody prepared it.

    Numba would go on to the source's folder and to one for all programs, whose kernels may be
    those of another version.
    """

    def ensure_cache_path(self) -> None:
        """Raise OSError where the folder can be neither written nor read."""
        try:
            super().ensure_cache_path()
        except OSError:
            if not Path(self.get_cache_path()).is_dir():
                raise


class _Files(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes: ClassVar[list[type]] = [_Locator]


class KernelCache(FunctionCache):  # type: ignore[misc]
    """A kernel's files; without a folder it raises RuntimeError or OSError as it is made.

    Kernels load without what only compiling them needs: Numba would import and register all that
    it knows before, SciPy with it, a third of a second of each process. Where a kernel has to be
    compiled, the compiler asks for that itself.
    """

    _impl_class = _Files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled for these types; None where nothing is, or it is damaged."""
        rtsys.initialize(target_context)
        try:
            return self._load_overload(sig, target_context)
        except Exception:  # a file that was cut off or damaged raises almost anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for these types, if it can be."""
        with contextlib.suppress(OSError):  # no space, or read-only: it is there for this process
            super().save_overload(sig, data)


@functools.cache
def kernel_folder() -> str:
    """Changes with the source: Numba looks at a kernel's own file, not at its parts in others."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return str(cache_folder() / "kernels" / digest.hexdigest()[:12])
