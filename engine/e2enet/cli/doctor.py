"""`e2enet doctor`: what is installed, what works, what is free; to be pasted into a bug report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from e2enet import __version__
from e2enet.cli.common import EXIT_FAILURE, Debug, ProgressStyle, run
from e2enet.events import BadInput, Reporter

_PACKAGES = ("numpy", "SimpleITK", "safetensors", "numba", "llvmlite", "torch", "monai")
_LITTLE_DISK, _LITTLE_MEMORY = 2 * 2**30, 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what it is, and what would help if it is bad."""

    subject: str
    state: str
    help: str = ""


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("doctor")(doctor)


def doctor(debug: Debug = False) -> None:
    """Check the installation: versions, devices, kernels, memory, disk, models.

    The text can be pasted into a bug report: it names no file of yours. Exit status 1 when
    something does not work.
    """

    bad: list[Finding] = []

    def work(_: Reporter) -> None:
        for finding in examine():
            typer.echo(f"{finding.subject:<12}{finding.state}")
            if finding.help:
                bad.append(finding)
                typer.echo(f"{'':<12}! {finding.help}")
        mend = f"{len(bad)} thing{'s' if len(bad) > 1 else ''} to mend, marked with !."
        typer.echo(mend if bad else "Everything that was looked at works.")

    run(work, progress=ProgressStyle.bar, debug=debug)
    if bad:
        raise typer.Exit(EXIT_FAILURE)


def examine() -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    yield Finding("e2enet", __version__)
    yield Finding("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("system", platform.platform())
    for name in _PACKAGES:
        yield Finding(name, _version(name))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("processor", f"{_processor()}, {cores} cores to use")
    for look in (_memory, _cache, _disk, _models, _devices, _kernels):
        yield from _safely(look)


def _safely(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that fails is a finding too: this is run where things are broken."""
    try:
        yield from look()
    except Exception as error:
        subject = look.__name__.strip("_")
        yield Finding(subject, f"{type(error).__name__}: {error}", "This check itself has failed.")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        from llvmlite import binding

        return f"{platform.machine()} ({binding.get_host_cpu_name()})"
    except ImportError:
        return platform.machine()


def _memory() -> Iterator[Finding]:
    total, free = _memory_bytes()
    if total is None or free is None:
        yield Finding("memory", "unknown on this system")
        return
    help = "Close other programs before a training." if free < _LITTLE_MEMORY else ""
    yield Finding("memory", f"{_size(free)} free of {_size(total)}", help)


def _memory_bytes() -> tuple[int | None, int | None]:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = {
            name: int(rest.split()[0]) * 1024 for name, _, rest in (x.partition(":") for x in lines)
        }
        return fields["MemTotal"], fields["MemAvailable"]
    except (OSError, KeyError, ValueError):
        return None, None


def _cache() -> Iterator[Finding]:
    from e2enet.folders import cache_folder

    folder = cache_folder()
    shown = _without_home(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            "cache",
            f"{shown} cannot be written: {error.strerror}",
            "Set E2ENET_CACHE to a folder that can.",
        )
        return
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    yield Finding("cache", f"{shown}, {_size(used)} used; it may be deleted at any time")


def _disk() -> Iterator[Finding]:
    from e2enet.folders import cache_folder

    for subject, folder in (("disk, cache", cache_folder()), ("disk, here", Path.cwd())):
        place = next(p for p in (folder, *folder.parents) if p.is_dir())
        free = shutil.disk_usage(place).free
        help = "Make room: preprocessed data need some GB." if free < _LITTLE_DISK else ""
        yield Finding(subject, f"{_size(free)} free", help)


def _models() -> Iterator[Finding]:
    from e2enet.bundle import Bundle, list_models

    found = list(list_models())
    if not found:
        help = "Install the package again, or set E2ENET_MODELS to a folder of models."
        yield Finding("models", "none", help)
    for path in found:
        try:
            bundle = Bundle.open(path)
            bundle.load_weights()
            yield Finding("model", f"{bundle.name} ({', '.join(bundle.channels)})")
        except BadInput:
            yield Finding("model", f"{path.name} is damaged", "Import or download it again.")


def _devices() -> Iterator[Finding]:
    yield Finding("device", "cpu")
    if _version("torch") == "not installed":
        return
    import torch

    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(number)
        yield Finding("device", f"cuda:{number}, {about.name}, {_size(about.total_memory)}")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps")


def _kernels() -> Iterator[Finding]:
    from e2enet.runtime.execution import why_no_kernels

    start = time.perf_counter()
    reason = why_no_kernels()
    if reason is None:
        seconds = time.perf_counter() - start
        yield Finding("kernels", f"compiled and correct ({seconds:.1f} s)")
    elif _version("torch") == "not installed":
        help = "Install PyTorch, which can take their place."
        yield Finding("kernels", f"do not run here ({reason})", help)
    else:
        what = f"do not run here ({reason}); PyTorch computes in their place, slower"
        yield Finding("kernels", what)


def _without_home(path: Path) -> str:
    """A path as a person writes it, without the person's name."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except ValueError:
        return "in a folder of its own ($E2ENET_CACHE)"


def _size(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
