"""A process with everything it starts, ended as a whole, and at the latest when Slicer is gone.

One interface, two systems. POSIX: a process group; the child watches the pipe on its standard
input, which breaks when Slicer goes (child.py). Windows: a job object that ends all its processes
when its last handle is closed, which the system does for a Slicer that crashed; the child then
watches nothing, because a thread that waits in a read of standard input blocks the import of numpy
there (numpy issue 24290).
"""

import contextlib
import ctypes
import os
import signal
import subprocess

CREATE_SUSPENDED, CREATE_NO_WINDOW = 0x4, 0x08000000
KILL_ON_JOB_CLOSE, EXTENDED_LIMITS = 0x2000, 9


class PosixTree:
    """A process group of its own."""

    def __init__(self) -> None:
        self._group = 0

    def options(self) -> dict:
        """What subprocess.Popen is to be told."""
        return {"stdin": subprocess.PIPE, "start_new_session": True}

    def adopt(self, process) -> None:
        """Take in a process that was started with `options`."""
        self._group = process.pid

    def ask(self) -> bool:
        """Ask it to end; whether that can be done."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._group:
                os.killpg(self._group, signal.SIGTERM)
        return bool(self._group)

    def end(self) -> None:
        """End all that is left of it."""
        if self._group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    def close(self) -> None:
        """Nothing of it is needed any more."""
        self._group = 0


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
    )


class ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("BasicLimitInformation", _BasicLimits),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


class WindowsTree:
    """A job object.

    The process starts suspended and goes on once it is in the job: PythonSlicer starts the real
    interpreter at once, which would otherwise stay outside.

    Args:
        kernel: kernel32, or what a test hands over.
        native: ntdll.

    Raises:
        OSError: The system makes no job.
    """

    def __init__(self, kernel=None, native=None) -> None:
        self._kernel = kernel or ctypes.WinDLL("kernel32", use_last_error=True)
        self._native = native or ctypes.WinDLL("ntdll")
        handle, pointer = ctypes.c_void_p, ctypes.c_void_p
        number = ctypes.c_uint32
        for name, result, arguments in (
            ("CreateJobObjectW", handle, [pointer, ctypes.c_wchar_p]),
            ("SetInformationJobObject", ctypes.c_int, [handle, ctypes.c_int, pointer, number]),
            ("AssignProcessToJobObject", ctypes.c_int, [handle, handle]),
            ("TerminateJobObject", ctypes.c_int, [handle, number]),
            ("CloseHandle", ctypes.c_int, [handle]),
        ):
            function = getattr(self._kernel, name)
            function.restype, function.argtypes = result, arguments
        self._native.NtResumeProcess.restype = ctypes.c_int32
        self._native.NtResumeProcess.argtypes = [handle]
        self._job = self._kernel.CreateJobObjectW(None, None)
        if not self._job:
            raise OSError("no job object can be made")
        limits = ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = KILL_ON_JOB_CLOSE
        size = ctypes.sizeof(limits)
        if not self._kernel.SetInformationJobObject(
            self._job, EXTENDED_LIMITS, ctypes.byref(limits), size
        ):
            self.close()
            raise OSError("the job object takes no limits")

    def options(self) -> dict:
        """What subprocess.Popen is to be told."""
        return {"stdin": subprocess.DEVNULL, "creationflags": CREATE_SUSPENDED | CREATE_NO_WINDOW}

    def adopt(self, process) -> None:
        """Put a suspended process into the job and let it go on.

        Raises:
            OSError: It cannot be put there; it has been ended.
        """
        handle = int(process._handle)
        taken = self._kernel.AssignProcessToJobObject(self._job, handle)
        if not taken or self._native.NtResumeProcess(handle) != 0:
            process.kill()
            self.close()
            raise OSError("the process cannot be put into a job object")

    def ask(self) -> bool:
        """A process without a window or a console cannot be asked."""
        return False

    def end(self) -> None:
        """End all that is left of it."""
        if self._job:
            self._kernel.TerminateJobObject(self._job, 1)

    def close(self) -> None:
        """Nothing of it is needed any more; what still runs ends."""
        if self._job:
            self._kernel.CloseHandle(self._job)
            self._job = None


def newTree():
    """The tree of this system."""
    return WindowsTree() if os.name == "nt" else PosixTree()
