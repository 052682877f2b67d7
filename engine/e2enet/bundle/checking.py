"""Whether the files of a bundle are those that its model.json lists. Standard library only."""

from __future__ import annotations

from pathlib import Path

from e2enet.bundle.archive import is_inside
from e2enet.bundle.description import MODEL, read_model
from e2enet.events import BadInput
from e2enet.files import sha256


def find_damage(folder: Path) -> list[str]:
    """A sentence for each file that lacks, was changed or is not listed; none of a sound bundle."""
    try:
        model = read_model(folder / MODEL)
        listed = {str(name): str(entry["sha256"]) for name, entry in model["files"].items()}
    except BadInput as error:
        return [error.message]
    except (KeyError, TypeError, AttributeError):
        return [f"{folder / MODEL} lists no files."]
    damage = []
    for name, digest in sorted(listed.items()):
        path = folder / name
        if not is_inside(name):
            damage.append(f"{folder / MODEL} lists {name!r}, which leads outside.")
        elif not path.is_file() or path.is_symlink():
            damage.append(f"{folder} lacks {name}.")
        else:
            try:
                found = sha256(path)
            except OSError as error:
                damage.append(f"{path} cannot be read: {error.strerror or error}.")
                continue
            if found != digest:
                damage.append(f"{path} was changed or damaged.")
    # Hidden files are those of the system, such as .DS_Store; nothing here reads them.
    files = (path for path in folder.rglob("[!.]*") if path.is_file())
    there = {path.relative_to(folder).as_posix() for path in files}
    for name in sorted(there - {*listed, MODEL}):
        damage.append(f"{folder} holds {name}, which its {MODEL} does not list.")
    return damage
