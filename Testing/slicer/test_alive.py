"""A process is its number and its start; on Windows through stand-ins of kernel32."""

import ctypes
import os
import subprocess
import sys

from E2ENetSegmentationLib.engine.alive import STILL_ACTIVE, _windowsStart, isAlive, startOf


def test_this_process():
    start = startOf(os.getpid())
    assert start
    assert start == startOf(os.getpid())
    assert isAlive(os.getpid())
    assert isAlive(os.getpid(), start)


def test_number_that_was_given_to_another_process():
    assert not isAlive(os.getpid(), "the start of one that had this number before")


def test_process_that_ended():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = startOf(process.pid)
    assert isAlive(process.pid, start)
    process.kill()
    process.wait()
    process.stdin.close()
    assert not isAlive(process.pid, start)
    assert startOf(process.pid) == ""
    assert startOf(0) == ""


class Kernel:
    """kernel32 with one process, number 7; -1 is what ctypes makes of a handle that was closed."""

    def __init__(self, code=STILL_ACTIVE):
        self.closed, self.code = [], code

        def open_process(access, _inherit, pid):
            assert access == 0x1000
            return 42 if pid == 7 else None

        def exit_code(handle, pointer):
            ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint32))[0] = self.code
            return int(handle == 42)

        def times(handle, created, *_others):
            ctypes.cast(created, ctypes.POINTER(ctypes.c_uint64))[0] = 133_000_000_000_000_001
            return int(handle == 42)

        self.OpenProcess, self.GetExitCodeProcess = open_process, exit_code
        self.GetProcessTimes, self.CloseHandle = times, lambda handle: self.closed.append(handle)


def test_windows():
    kernel = Kernel()
    assert _windowsStart(7, kernel) == "133000000000000001"
    assert kernel.closed == [42]
    assert _windowsStart(8, kernel) == ""
    ended = Kernel(code=0)  # a handle of somebody else's keeps it known
    assert _windowsStart(7, ended) == ""
    assert ended.closed == [42]
