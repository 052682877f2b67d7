"""Whether a process that was met before still runs; the system gives its number to others later."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

QUERY_LIMITED_INFORMATION, STILL_ACTIVE = 0x1000, 259


def startOf(pid: int) -> str:
    """When a process started, in the system's own words; "" if there is no such process."""
    if pid <= 0:
        return ""
    if os.name == "nt":
        return _windowsStart(pid)
    if sys.platform.startswith("linux"):
        return _linuxStart(pid)
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.stdout.strip()


def isAlive(pid: int, start: str = "") -> bool:
    """Whether a process runs.

    Args:
        start: What `startOf` said of it then; a later process of the same number is another one.
    """
    now = startOf(pid)
    return bool(now) and (not start or now == start)


def _linuxStart(pid: int) -> str:
    """Ticks after the computer's start, with the name of that start."""
    try:
        # The name in brackets may hold blanks and brackets; starttime is field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] == "Z" else f"{boot} {fields[19]}"  # Z: ended, not yet asked after


def _windowsStart(pid: int, kernel=None) -> str:
    kernel = kernel or ctypes.WinDLL("kernel32")
    kernel.OpenProcess.restype = ctypes.c_void_p
    kernel.OpenProcess.argtypes = [ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32]
    kernel.GetExitCodeProcess.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    kernel.GetProcessTimes.argtypes = [ctypes.c_void_p] * 5
    kernel.CloseHandle.argtypes = [ctypes.c_void_p]
    handle = kernel.OpenProcess(QUERY_LIMITED_INFORMATION, 0, pid)
    if not handle:
        return ""
    try:
        code, times = ctypes.c_uint32(), [ctypes.c_uint64() for _ in range(4)]
        if not kernel.GetExitCodeProcess(handle, ctypes.byref(code)) or code.value != STILL_ACTIVE:
            return ""
        if not kernel.GetProcessTimes(handle, *(ctypes.byref(time) for time in times)):
            return ""
        return str(times[0].value)
    finally:
        kernel.CloseHandle(handle)
