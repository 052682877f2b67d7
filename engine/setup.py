"""Puts the models of Resources/Models into wheels and source distributions, as e2enet/models.

They lie outside of this folder because the Slicer extension ships them too. An editable
installation finds them where they are. Everything else is in pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
INSIDE = Path("e2enet") / "models"


def copy_models(root: Path) -> None:
    """Copy the shipped models into the package under `root`, a build or a release tree."""
    # In a source distribution they are already inside.
    places = (HERE / INSIDE, HERE.parent / "Resources" / "Models")
    source = next((place for place in places if place.is_dir()), None)
    if source is None:
        raise SystemExit(f"The models are missing: neither {places[0]} nor {places[1]} is there.")
    # The index is for whoever hosts the folder.
    index = shutil.ignore_patterns("index.json")
    shutil.copytree(source, root / INSIDE, ignore=index, dirs_exist_ok=True)


class Build(build_py):
    """What a wheel is made from."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            copy_models(Path(self.build_lib))


class SourceDistribution(sdist):
    """What is uploaded beside the wheel, and can be built without the repository."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        copy_models(Path(base_dir))


setup(cmdclass={"build_py": Build, "sdist": SourceDistribution})
