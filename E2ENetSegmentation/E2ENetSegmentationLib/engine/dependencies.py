"""The Python packages the engine needs, installed only after a person said yes."""

import importlib.metadata
import os
import tempfile
from pathlib import Path

import slicer

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

SEGMENT, TRAIN = "segment", "train"
TORCH = "torch"
TORCH_VERSION = ">=2.4"
# Slicer brings these, or other extensions have them loaded: never replaced by an installation.
KEPT = ("numpy", "SimpleITK", "torch", "torchvision", "vtk")


class Dependencies:
    """Finds and installs what is missing.

    Args:
        folder: Holds requirements.txt and requirements-train.txt.
        host: Asks the person.
    """

    def __init__(self, folder, host) -> None:
        self.folder = Path(folder)
        self.host = host

    def requirements(self, purpose: str) -> list:
        """Requirement lines of a purpose."""
        names = ["requirements.txt"] + (["requirements-train.txt"] if purpose == TRAIN else [])
        lines = []
        for name in names:
            for line in (self.folder / name).read_text(encoding="utf-8").splitlines():
                if line.strip() and not line.startswith("#"):
                    lines.append(line.strip())
        return lines

    def missing(self, purpose: str) -> list:
        """Requirement lines that are not satisfied in Slicer's Python."""
        wanted = [TORCH + TORCH_VERSION, *self.requirements(purpose)]
        return [line for line in wanted if not _satisfied(line)]

    def ensure(self, purpose: str) -> None:
        """Install what is missing, after asking; with E2ENET_PYTHON there is nothing to do here.

        Raises:
            Refused: The person said no, PyTorch cannot be installed from here, or pip failed.
        """
        if paths.usesOwnInterpreter():
            return
        missing = self.missing(purpose)
        if not missing:
            return
        question = _(
            "E2ENet needs these Python packages: {packages}.\n"
            "They are downloaded and installed into Slicer's Python (PyTorch: 0.2 to 3 GB). "
            "Packages that Slicer has stay as they are.\n\nInstall them now?"
        ).format(packages=", ".join(missing))
        if not self.host.confirm(question):
            raise Refused(
                _("Without the packages {packages} nothing can be computed.").format(
                    packages=", ".join(missing)
                ),
                _("Click again to install them, or name another Python in E2ENET_PYTHON."),
                "dependency",
            )
        try:
            self._install(missing)
        except Refused:
            raise
        except Exception as error:
            raise Refused(
                _("The packages could not be installed: {reason}.").format(
                    reason=str(error).strip().split("\n")[0] or type(error).__name__
                ),
                _("Look at the Python console, check the network connection, and click again."),
                "dependency",
            ) from error

    def _install(self, missing) -> None:
        others = [line for line in missing if _name(line) != TORCH]
        if len(others) < len(missing):
            self._installTorch()
        if not others:
            return
        descriptor, constraints = tempfile.mkstemp(prefix="E2ENet-", suffix="-constraints.txt")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write("\n".join(constraintLines()) + "\n")
            packaging = _slicerPackaging()
            if packaging is not None:
                packaging.pip_ensure(
                    others, constraints=constraints, prompt_install=False, requester="E2ENet"
                )
            else:
                slicer.util.pip_install(["-c", constraints, *others])
        finally:
            os.unlink(constraints)

    def _installTorch(self) -> None:
        try:
            import PyTorchUtils
        except ImportError:
            raise Refused(
                _("PyTorch is missing, and so is the PyTorch extension that installs it."),
                _("Install the extension PyTorch in the Extensions Manager, restart Slicer."),
                "dependency",
            ) from None
        logic = PyTorchUtils.PyTorchUtilsLogic()
        logic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION)
        if not _satisfied(TORCH + TORCH_VERSION):
            raise Refused(_("PyTorch was not installed."), _("Look at the Python console."))


def constraintLines() -> list:
    """ "name==version" of the packages an installation must leave alone."""
    lines = []
    for name in KEPT:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


def _slicerPackaging():
    """slicer.packaging, or None before Slicer 5.12."""
    try:
        import slicer.packaging as packaging
    except ImportError:
        return None
    return packaging if hasattr(packaging, "pip_ensure") else None


def _name(requirement: str) -> str:
    for index, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:index]
    return requirement


def _satisfied(requirement: str) -> bool:
    """Whether "name>=1.2" is installed in this Python."""
    name = _name(requirement)
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    _rest, _sign, least = requirement.partition(">=")
    return not least or _numbers(installed) >= _numbers(least)


def _numbers(version: str) -> tuple:
    parts = []
    for part in version.split("+")[0].split("."):
        digits = ""
        for character in part:
            if not character.isdigit():
                break
            digits += character
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)
