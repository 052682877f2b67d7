"""The graph of an E2ENet against its definition, and that it is the only one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import e2enet
import pytest
from e2enet.networks import E2ENet, Lattice, build_lattice
from e2enet.networks.lattice import fused_nodes, last_diagonal
from hypothesis import given, settings
from hypothesis import strategies as st

STRIDES = st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=6)
lattices = st.builds(
    Lattice,
    st.integers(1, 4),
    st.integers(1, 5),
    STRIDES,
    base_channels=st.integers(1, 9),
    max_channels=st.integers(1, 40),
    shift_groups=st.integers(1, 5),
)


@given(lattices)
def test_flows_are_the_definition(lattice: Lattice) -> None:
    """Node (s, i) reads (s-1, i), (s-1, i+1) and (s-1, i-1), joined in that order."""
    assert {node.id for node in lattice.nodes} == {
        (stage, level) for stage in range(lattice.levels) for level in range(lattice.levels - stage)
    }
    for node in lattice.fused:
        stage, level = node.id
        kinds = {"forward": level, "upward": level + 1, "downward": level - 1}
        if not level:
            del kinds["downward"]
        assert [flow.kind for flow in node.flows] == list(kinds)
        stop = 0
        for flow in node.flows:
            assert flow.source == (stage - 1, kinds[flow.kind])
            width = lattice.channels[level - 1 if flow.kind == "downward" else level]
            assert flow.channels == (stop, stop + width)
            stop += width
            if flow.up:
                assert flow.up.in_channels == lattice.channels[level + 1]
                assert flow.up.out_channels == width
        assert node.blocks[0].in_channels == stop
        assert len(node.blocks) == 1 + (stage + level == lattice.levels - 1)


@given(lattices)
def test_a_source_is_made_before_and_read_last_once(lattice: Lattice) -> None:
    made: set[tuple[int, int] | None] = {None}
    gone: set[tuple[int, int] | None] = set()
    for node in lattice.nodes:
        for flow in node.flows:
            assert flow.source in made - gone
        gone |= {flow.source for flow in node.flows if flow.last}
        made.add(node.id)
    never_read = {(lattice.levels - 1, 0)}
    assert made - gone == never_read


@settings(max_examples=20, deadline=None)
@given(lattices)
def test_names_and_shapes_are_those_of_the_network(lattice: Lattice) -> None:
    network = E2ENet(**lattice.arguments)
    assert lattice.parameters == {n: tuple(p.shape) for n, p in network.named_parameters()}
    assert list(lattice.sparse_layers) == list(network.sparse_layers())
    for layer in lattice.layers:
        assert network.get_submodule(layer.name).weight is network.get_parameter(layer.weight)
        if layer.norm:
            assert network.get_parameter(f"{layer.norm}.weight").shape == (layer.out_channels,)


def test_order_of_the_nodes() -> None:
    assert fused_nodes(4) == [(1, 2), (1, 1), (1, 0), (2, 1), (2, 0), (3, 0)]
    assert last_diagonal(4) == [(3, 0), (2, 1), (1, 2)]
    lattice = Lattice(1, 2, [(2, 2, 2)] * 4)
    assert [layer.level for layer in lattice.heads] == [0, 1, 2]


def test_sizes_of_the_levels() -> None:
    lattice = Lattice(1, 2, [(1, 2, 2), (2, 2, 2)])
    assert lattice.sizes((4, 8, 12)) == [(4, 8, 12), (4, 4, 6), (2, 2, 3)]
    with pytest.raises(ValueError, match=r"pad it to \(4, 8, 12\)"):
        lattice.sizes((3, 8, 12))
    with pytest.raises(ValueError, match=r"takes \(B, 1, D, H, W\)"):
        lattice.check_image((1, 2, 4, 8, 12))


def test_the_registry_refuses_what_it_does_not_know() -> None:
    assert build_lattice("E2ENet", Lattice(1, 2, [(2, 2, 2)]).arguments).levels == 2
    for kind, arguments in (("UNet", {}), ("E2ENet", {"colour": 1})):
        with pytest.raises(ValueError):
            build_lattice(kind, arguments)


def test_the_graph_needs_nothing_but_python() -> None:
    code = (
        "import sys; from e2enet.networks import build_lattice;"
        "build_lattice('E2ENet', {'in_channels': 1, 'num_classes': 2, 'strides': [[2, 2, 2]]});"
        "print([name for name in ('torch', 'numpy', 'monai') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


def test_it_is_walked_in_one_place() -> None:
    """Who needs the nodes asks the graph; nobody else counts stages and levels."""
    walk = re.compile(r"range\([^)]*levels - [a-z]")
    home = Path(e2enet.__file__).parent
    places = {
        path.relative_to(home).as_posix()
        for path in home.rglob("*.py")
        if walk.search(path.read_text(encoding="utf-8"))
    }
    assert places == {"networks/lattice.py"}
