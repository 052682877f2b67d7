"""Runs the engine and ends it when Slicer is gone: `python child.py VERB …`.

Slicer keeps the other end of this process's standard input. When Slicer exits, even by a crash,
that pipe breaks and the whole process tree ends. A program of its own: it must not import the Lib.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading


def endTree() -> None:
    if os.name == "nt":
        subprocess.call(["taskkill", "/F", "/T", "/PID", str(os.getpid())])
    elif os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def watchParent() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    endTree()


if __name__ == "__main__":
    # This folder has modules of common names (events, models); the engine must not see them.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != here]
    threading.Thread(target=watchParent, daemon=True).start()
    runpy.run_module("e2enet", run_name="__main__", alter_sys=True)
