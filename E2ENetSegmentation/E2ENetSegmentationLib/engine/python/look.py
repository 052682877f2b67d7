"""What a Python is and which packages it can really import: `child.py look.py NAME …`.

Says so in one event, a JSON line. A program of its own: it must not import the Lib.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import sys


def package(name: str) -> dict:
    """Version and place, or why it cannot be imported; {} if it is not there."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return {}
    try:
        module = importlib.import_module(name)
    except Exception as error:  # whatever a broken installation raises
        return {"version": version, "error": f"{type(error).__name__}: {error}"}
    return {"version": version, "file": getattr(module, "__file__", None) or ""}


def cards() -> list:
    """Names of the graphics processors that PyTorch can use; nothing without PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["Apple"] if torch.backends.mps.is_available() else []


def size() -> int:
    """Bytes of the packages that are not the interpreter's own."""
    folders = os.environ.get("E2ENET_PATH", "").split(os.pathsep)[1:]
    total = 0
    for folder in folders:
        for base, _folders, files in os.walk(folder):
            total += sum(os.path.getsize(os.path.join(base, name)) for name in files)
    return total


found = {name: package(name) for name in sys.argv[1:]}
try:
    pip = importlib.metadata.version("pip")
except importlib.metadata.PackageNotFoundError:
    pip = ""
seen = {
    "event": "result",
    "version": list(sys.version_info[:3]),
    "system": sys.platform,
    "machine": platform.machine(),
    "pip": pip,
    "packages": found,
    "cards": cards(),
    "size": size(),
}
print(json.dumps(seen), flush=True)
