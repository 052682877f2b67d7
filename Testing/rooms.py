"""`make coverage`: the share of lines and branches that the tests run, room by room.

Reads what `coverage run` left behind; names the rooms below WANTED per cent.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from coverage import Coverage
from rich.console import Console
from rich.table import Table

WANTED = 85
ROOTS = {"e2enet": "engine", "E2ENetSegmentationLib": "module"}


def room(path: str) -> str | None:
    """The folder a file of this repository lies in, from its package on.

    Tests install the package elsewhere too; those copies are not what is asked about.
    """
    parts = Path(path).parts
    for package, name in ROOTS.items():
        if parts[1:2] == (package,):
            return "/".join([name, *parts[2:-1]])
    return None


def rooms(report: dict) -> dict[str, tuple[int, int]]:
    """(run, all) lines and branches of each room of coverage's JSON report."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, file in report["files"].items():
        if (name := room(path)) is None:
            continue
        summary = file["summary"]
        found[name][0] += summary["covered_lines"] + summary.get("covered_branches", 0)
        found[name][1] += summary["num_statements"] + summary.get("num_branches", 0)
    return {name: (run, whole) for name, (run, whole) in sorted(found.items()) if whole}


def main() -> None:
    """Print the table; the exit status is 0 whatever it says."""
    data = Coverage()
    data.combine(keep=False)
    data.save()
    stream = Path("coverage.json")
    data.json_report(outfile=str(stream))
    found = rooms(json.loads(stream.read_text(encoding="utf-8")))
    table = Table("Room", "Lines and branches", "Run", box=None)
    for name, (run, whole) in found.items():
        share = 100 * run / whole
        table.add_row(
            name, str(whole), f"{share:.0f} %", style="" if share >= WANTED else "bold red"
        )
    Console().print(table)
    low = [name for name, (run, whole) in found.items() if 100 * run / whole < WANTED]
    print(f"Below {WANTED} %: {', '.join(low) or 'none'}")


if __name__ == "__main__":
    main()
