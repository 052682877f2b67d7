"""What a client sends: one NIfTI file a channel, looked at before anything else reads it.

NIfTI alone, because a header of NRRD or MetaImage may name another file to be read.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

from e2enet.events import BadInput

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20


def check_upload(path: Path, limit: int) -> str:
    """Look whether a file is one volume, and how large it is once unpacked.

    Args:
        path: The file.
        limit: Bytes, of what is unpacked and of all its voxels as 32-bit numbers.

    Returns:
        The ending that its content should have: ".nii" or ".nii.gz".

    Raises:
        BadInput: It is not NIfTI, is damaged, or too large.
    """
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            head = stream.read(540)
            voxels = _voxels(head)
            length = len(head)
            while length <= limit and (block := stream.read(_BLOCK)):
                length += len(block)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(
            "The file is damaged: its data end too early or its compression is broken.",
            help="Send it again.",
            code="damaged-file",
        ) from error
    if length > limit or voxels * 4 > limit:
        raise BadInput(
            f"The volume is larger than the {limit / 1e6:.0f} MB that this server takes once it is "
            "unpacked.",
            help="Crop it.",
            code="too-large",
        )
    return ".nii.gz" if packed else ".nii"


def _voxels(head: bytes) -> int:
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            if head[344:348] == b"n+1\0":
                return _product(struct.unpack_from(order + "8h", head, 40))
        elif (
            len(head) >= 540
            and struct.unpack_from(order + "i", head)[0] == 540
            and head[4:8] == b"n+2\0"
        ):
            return _product(struct.unpack_from(order + "8q", head, 16))
    raise _not_nifti()


def _product(dim: tuple[int, ...]) -> int:
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise _not_nifti()
    return math.prod(dim[1 : dim[0] + 1])


def _not_nifti() -> BadInput:
    return BadInput(
        "The file is no NIfTI volume.",
        help="Send one .nii or .nii.gz file; `e2enet segment --server` converts what it reads.",
        code="not-nifti",
    )
