"""Set before anything imports torch; child processes of the tests inherit it."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `harness` is for all tests

# The tests' networks are tiny, and waiting for a second thread costs more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl+C, and children would
# inherit that; the tests of cancelling need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
