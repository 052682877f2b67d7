"""`python -m e2enet.service.jobs.child VERB …`: the `e2enet` command, which ends with its server.

The server keeps the other end of this process's standard input; when it dies, however that
happens, the pipe breaks. On Windows, where a thread that waits for a pipe can stop others from
loading libraries, the process goes on to its end instead, and what it writes is not used.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def _watch() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if os.name == "posix":
        threading.Thread(target=_watch, daemon=True).start()
    runpy.run_module("e2enet", run_name="__main__", alter_sys=True)
