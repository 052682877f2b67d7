"""What the tab Models asks of the internet: `child.py fetch.py WORK`, WORK a JSON object.

{"do": "install", "source": …, "sha256": …, "index": …, "replace": …}   a model, by any door
{"do": "catalogue", "index": …, "folder": …}                           what an index offers
{"do": "sample", "place": …, "sha256": …, "bytes": …, "target": …}      an image to try one on

Beside Slicer, so that nothing waits and Cancel ends it at once; by the engine's own code, which
needs no package for it. Says how far it is in events, JSON lines. It must not import the Lib.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path


def main(work: dict) -> int:
    from e2enet.events import BadInput, JsonReporter

    reporter = JsonReporter()
    try:
        result = DOES[work.pop("do")](reporter, **work)
    except BadInput as error:
        reporter.error(error.code, error.message, error.help)
        return 2
    except OSError as error:
        reporter.error("failure", f"{error.filename or 'A file'}: {error.strerror or error}.")
        return 1
    reporter.result(**result)
    return 0


def install(reporter, source: str, sha256: str, index: str, replace: bool) -> dict:
    from e2enet.bundle.install import install as install_models

    placed = install_models(source, sha256=sha256, index=index, replace=replace, reporter=reporter)
    return {"models": [path.name for path in placed]}


def catalogue(reporter, index: str, folder: str) -> dict:
    """The entries of an index; their pictures are kept in a folder, under their hashes."""
    from e2enet.bundle.index import read_index
    from e2enet.events import BadInput

    entries = read_index(index)
    found = []
    for number, entry in enumerate(entries):
        reporter.progress("catalogue", number, len(entries))
        picture = ""
        if entry.picture is not None:
            target = Path(folder) / f"{entry.picture.sha256}.png"
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                picture = os.fspath(entry.picture.fetch(target))
            except (BadInput, OSError) as error:  # a card without a picture is a card
                reporter.warning("no-picture", str(error))
        found.append({**asdict(entry), "picture": picture})
    return {"entries": found}


def sample(reporter, place: str, sha256: str, bytes: int, target: str) -> dict:
    from e2enet.bundle.index import Remote
    from e2enet.files import output_errors

    def tell(done: int, total: int) -> None:
        reporter.progress("download", done, total)

    with output_errors(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    return {"path": os.fspath(Remote(place, sha256, bytes).fetch(Path(target), on_bytes=tell))}


DOES = {"install": install, "catalogue": catalogue, "sample": sample}

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
