"""A network whose image has MONAI's axes: what the configuration of a MONAI bundle names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from e2enet.networks import build_network


class MonaiNetwork(nn.Module):
    """A network of this project for images (B, C, x, y, z) in the orientation LPS.

    Args:
        kind, arguments: As model.json has them.
        transpose: D, H, W as canonical array axes (0 = z, 1 = y, 2 = x), as the plan has them.
    """

    def __init__(self, kind: str, arguments: dict[str, Any], transpose: Sequence[int]) -> None:
        super().__init__()
        self.network = build_network(kind, arguments)
        # Axis k of (z, y, x) is axis 2 - k of (x, y, z).
        self.axes = (0, 1, *(4 - int(k) for k in transpose))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, x, y, z) -> logits (B, num_classes, x, y, z) of the finest head."""
        logits = self.network(image.permute(self.axes).contiguous())
        if isinstance(logits, (list, tuple)):
            logits = logits[0]
        back = sorted(range(5), key=self.axes.__getitem__)
        return logits.permute(back)  # type: ignore[no-any-return]
