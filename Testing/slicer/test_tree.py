"""The Windows half of a process's tree, through stand-ins of kernel32 and ntdll.

What this cannot show is that Windows does what its documentation says; the order of the calls,
their arguments and the layout of the structure are what is tested. `test_process` has the POSIX
half, on the real system.
"""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
from E2ENetSegmentationLib.engine.tree import (
    EXTENDED_LIMITS,
    KILL_ON_JOB_CLOSE,
    ExtendedLimits,
    WindowsTree,
)


class System:
    """kernel32 and ntdll that note what they are asked."""

    def __init__(self, **answers):
        self.calls, self.flags = [], None
        for name in (
            "CreateJobObjectW",
            "SetInformationJobObject",
            "AssignProcessToJobObject",
            "TerminateJobObject",
            "CloseHandle",
            "NtResumeProcess",
        ):
            setattr(self, name, self._function(name, answers.get(name)))

    def _function(self, name, answer):
        default = {"CreateJobObjectW": 77, "NtResumeProcess": 0}.get(name, 1)

        def called(*arguments):
            self.calls.append((name, *arguments[:2]))
            if name == "SetInformationJobObject":
                limits = ctypes.cast(arguments[2], ctypes.POINTER(ExtendedLimits))[0]
                self.flags = limits.BasicLimitInformation.LimitFlags
                assert arguments[3] == ctypes.sizeof(ExtendedLimits)
            return default if answer is None else answer

        return called

    @property
    def names(self):
        return [call[0] for call in self.calls]


def process():
    killed = []
    return SimpleNamespace(_handle=5, kill=lambda: killed.append(True), killed=killed)


@pytest.mark.skipif(sys.maxsize < 2**32, reason="the size on 64-bit systems")
def test_layout():
    """winnt.h, 64 bit: 144 bytes, LimitFlags at 16."""
    assert ctypes.sizeof(ExtendedLimits) == 144
    assert type(ExtendedLimits().BasicLimitInformation).LimitFlags.offset == 16


def test_suspended_until_it_is_in_the_job():
    """Otherwise what the launcher starts at once would stay outside."""
    system = System()
    tree = WindowsTree(system, system)
    assert system.calls[1] == ("SetInformationJobObject", 77, EXTENDED_LIMITS)
    assert system.flags == KILL_ON_JOB_CLOSE
    options = tree.options()
    assert options["creationflags"] & 0x4
    assert options["stdin"] == subprocess.DEVNULL  # a pipe there blocks imports
    tree.adopt(process())
    assert system.calls[2:] == [("AssignProcessToJobObject", 77, 5), ("NtResumeProcess", 5)]
    tree.end()
    tree.close()
    tree.close()
    tree.end()
    assert system.names[4:] == ["TerminateJobObject", "CloseHandle"]


@pytest.mark.parametrize(
    "answers", [{"AssignProcessToJobObject": 0}, {"NtResumeProcess": -1073741790}]
)
def test_process_that_cannot_be_taken_is_ended(answers):
    system, started = System(**answers), process()
    tree = WindowsTree(system, system)
    with pytest.raises(OSError, match="job object"):
        tree.adopt(started)
    assert started.killed == [True]
    assert system.names[-1] == "CloseHandle"


def test_no_job_no_process():
    with pytest.raises(OSError, match="no job object"):
        WindowsTree(System(CreateJobObjectW=0), System())
    refusing = System(SetInformationJobObject=0)
    with pytest.raises(OSError, match="takes no limits"):
        WindowsTree(refusing, refusing)
    assert refusing.names[-1] == "CloseHandle"
