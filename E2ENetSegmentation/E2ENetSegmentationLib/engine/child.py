"""Runs one program of the engine's Python: `python child.py NAME …`, a module or a .py file.

On Linux and macOS Slicer keeps the other end of this process's standard input. When Slicer exits,
even by a crash, that pipe breaks and the whole process tree ends; Windows does that by itself
(tree.py). A program of its own: it must not import the Lib.

$E2ENET_PATH names the folders of the engine and its packages. They go first, here and in processes
that are started from here: the launcher of Slicer's Python puts Slicer's own packages before
whatever PYTHONPATH names, and those are left out altogether, so that never half of one
installation meets half of another.
"""

import os
import runpy
import signal
import sys
import threading


def watchParent() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def usePackages(folders) -> None:
    """Put the engine's folders first and leave out every other collection of packages."""
    others = ("site-packages", "dist-packages")
    kept = [p for p in sys.path if not os.path.normpath(p).endswith(others)]
    sys.path[:] = [*folders, *(p for p in kept if p not in folders)]
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)


if __name__ == "__main__":
    # This folder has modules of common names (events, models); the engine must not see them.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != here]
    named = os.environ.get("E2ENET_PATH", "")
    if named:
        usePackages(named.split(os.pathsep))
    if os.name != "nt":
        threading.Thread(target=watchParent, daemon=True).start()
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
