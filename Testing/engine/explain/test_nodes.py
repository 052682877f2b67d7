"""Names of nodes."""

from __future__ import annotations

import pytest
from e2enet.events import BadInput
from e2enet.explain.nodes import Node, lattice, output_nodes, parse_nodes
from e2enet.networks import E2ENet


def test_the_lattice_is_the_network_s():
    network = E2ENet(1, 2, [(2, 2, 2)] * 3, base_channels=2)
    assert set(lattice(4)) == {node.id for node in network.lattice.fused}
    assert len(lattice(4)) == 6
    for node in network.lattice.fused:
        assert Node(*node.id).directions == tuple(flow.kind for flow in node.flows)


def test_the_last_diagonal_is_the_default():
    assert parse_nodes(None, lattice(4)) == [Node(3, 0), Node(2, 1), Node(1, 2)] == output_nodes(4)


@pytest.mark.parametrize("text", ["1:2,3:0", ["1:2", "3:0"], " 1.2 , 3_0", ["1:2,3:0", "1:2"]])
def test_several_ways_to_write_nodes(text):
    assert parse_nodes(text, lattice(4)) == [Node(1, 2), Node(3, 0)]


def test_all_of_them():
    assert parse_nodes("ALL", lattice(3)) == [Node(1, 0), Node(1, 1), Node(2, 0)]


@pytest.mark.parametrize("text", ["2:2", "0:0", "4:0", "x", "", "1:2;2:1"])
def test_a_node_that_does_not_exist_lists_those_that_do(text):
    with pytest.raises(BadInput) as caught:
        parse_nodes(text, lattice(4))
    assert caught.value.code == "no-node"
    assert "1:0, 1:1, 1:2, 2:0, 2:1, 3:0" in caught.value.help
