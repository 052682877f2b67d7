"""One thread a process: the tests' networks are tiny, and waiting for a second thread costs more.

Set before anything imports torch; child processes of the tests inherit it.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
