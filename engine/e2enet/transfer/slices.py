"""An E2ENet that was trained on slices, as a network of volumes.

E2ENet's (1, 3, 3) kernels are 2D kernels, so that nothing has to be expanded: weights and masks
are taken over as they are. Neither paper goes there (E2ENet, arXiv 2312.04727; Messaoudi et al.,
Medical Image Analysis 2023).
"""

from __future__ import annotations

import torch

from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.networks.e2enet import E2ENet


def volume_network(
    flat: E2ENet, connections: Connections, *, norm_axes: str = "volume", shift_groups: int = 3
) -> tuple[E2ENet, Connections]:
    """The network of volumes that a network of slices becomes, and its connections.

    With `norm_axes` "slice" and `shift_groups` 1 its logits of a volume are those of the slices,
    one by one. Statistics over the volume and the depth-shift are what fine-tuning begins with;
    they change the logits, and the Dice falls until the network has adapted to them.

    Args:
        flat: Trained on slices, the shift off; without strides along depth.
        connections: Its live connections.
        norm_axes, shift_groups: Of the new network.

    Raises:
        BadInput: The network is no E2ENet of slices.
    """
    arguments = {**flat.arguments, "norm_axes": norm_axes, "shift_groups": shift_groups}
    if type(flat) is not E2ENet or any(stride[0] > 1 for stride in flat.strides):
        raise BadInput(
            f"An E2ENet that was trained on slices is needed, with strides of (1, s, s); this "
            f"{type(flat).__name__} is none.",
            help="Train one with --patch 1,H,W.",
            code="not-2d",
        )
    try:
        with torch.random.fork_rng(devices=[]):  # its own random weights are replaced
            deep = E2ENet(**arguments)
    except ValueError as error:
        raise BadInput(str(error), code="bad-setting") from error
    deep.load_state_dict(flat.state_dict())
    return deep.eval(), Connections(deep, connections.state_dict())
