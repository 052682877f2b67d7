"""Transposed convolutions whose kernel is their stride, heads and pooling.

A transposed convolution makes of every input voxel a box of output voxels that no other input
voxel reaches: a product of a matrix with the input maps, voxel by voxel. A head, a 1 x 1 x 1
convolution, is the case of the box (1, 1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from e2enet.runtime.kernels.accumulation import BLOCK, PITCH, WIDE, shared
from e2enet.runtime.kernels.layers import PointLayer
from e2enet.runtime.kernels.memory import aligned
from e2enet.runtime.kernels.pairs import pack, shared_pairs
from e2enet.runtime.kernels.traced import Memory, Whole, traced
from e2enet.runtime.kernels.vectors import (
    SLACK,
    deal2,
    kernel,
    load,
    maximum,
    part,
    smaller,
    splat,
    store,
    weave2,
)
from e2enet.runtime.kernels.voxels import (
    activated,
    read_activated,
    size_of,
    write_one,
    write_some,
)


def scratch(layers: Sequence[PointLayer], *, paired: bool = False) -> tuple[np.ndarray, ...]:
    """What one thread needs for any of them: activated inputs, sums, a row of voxels.

    The inputs are int32 where they are pairs of bfloat16.
    """
    maps = aligned(max(len(layer.read) for layer in layers) * PITCH + SLACK)
    return (
        maps.view(np.int32) if paired else maps,
        aligned(max(len(layer.live.begins) for layer in layers) * BLOCK * PITCH + SLACK),
        aligned(max(layer.box[2] for layer in layers) * PITCH + SLACK),
    )


@traced(0)
def _put(
    maps: Memory, at: Whole, lane: Whole, kind: Memory, address: Whole, affine: Memory, c: Whole
) -> None:
    """32 voxels of input map c, activated, as float32 or as bfloat16 as `maps` are."""
    scale, shift, slope = (affine[c * 3 + n] for n in range(3))
    low, high = (activated(kind, address, 16 * n, scale, shift, slope) for n in range(2))
    if maps.paired:
        maps.store(at + lane // 2, pack(low, high))
    else:
        maps.store(at + lane, low)
        maps.store(at + lane + 16, high)


@traced(0)
def _multiply(
    maps: Memory,
    lane: Whole,
    factors: Memory,
    inputs: Memory,
    begin: Whole,
    end: Whole,
    sums: Memory,
    to: Whole,
) -> None:
    """BLOCK rows of the product for WIDE voxels."""
    if maps.paired:
        shared_pairs.trace(maps, lane // 2, factors, 0, inputs, begin, end, sums, to, PITCH)
    else:
        shared.trace(maps, lane, factors, 0, inputs, begin, end, sums, to, PITCH)


@part
def _write_row(sums, at, box_w, line, count, kind, to):
    """One row of output voxels from the sums of its box_w columns."""
    size = size_of(kind)
    for k in range(0, count, 16):
        left = count - k
        if box_w == 1:
            write_some(kind, to + size * k, load(sums, at + k), left)
        elif box_w == 2:
            y0, y1 = weave2(load(sums, at + k), load(sums, at + PITCH + k))
            write_some(kind, to + 2 * size * k, y0, 2 * left)
            write_some(kind, to + 2 * size * k + 16 * size, y1, 2 * left - 16)
        else:
            for n in range(smaller(left, 16)):
                for e in range(box_w):
                    line[box_w * n + e] = sums[at + e * PITCH + k + n]
            for n in range(0, box_w * 16, 16):
                write_some(kind, to + size * (box_w * k + n), load(line, n), box_w * left - n)


@kernel
def expand(
    blocks,  # (first, last) of this thread
    shape,  # first input slice, slices, H, W of the input
    box,  # stride (D, H, W)
    source,  # Source
    lists,  # Lists of each group of BLOCK rows
    factors,
    outputs,  # address of every output map, of the slice that input slice 0 would make
    out_kind,  # FLOAT or HALF
    scratch,
):
    """Compute the output boxes of some blocks of PITCH input voxels.

    A row of the product is an (output map, place in the box), padded to whole groups a map unless
    the box is a single voxel.
    """
    maps, sums, line = scratch
    addresses, affine, kind = source
    inputs, begins = lists
    first_slice, slices, height, width = shape
    box_d, box_h, box_w = box
    places = box_d * box_h * box_w
    voxels = slices * height * width
    before = first_slice * height * width
    rows = places if places == 1 else -(-places // BLOCK) * BLOCK
    for block in range(blocks[0], blocks[1]):
        first = block * PITCH
        length = smaller(PITCH, voxels - first)
        for c in range(len(addresses)):
            address = addresses[c] + size_of(kind) * (before + first)
            for k in range(0, length, WIDE):
                _put(maps, c * PITCH, k, kind, address + size_of(kind) * k, affine, c)
        for group in range(len(begins) - 1):
            for half in range(0, length, WIDE):
                _multiply(
                    maps, half, factors, inputs, begins[group], begins[group + 1],
                    sums, BLOCK * group * PITCH + half,
                )  # fmt: skip
        done = 0
        while done < length:
            voxel = before + first + done
            w = voxel % width
            h = voxel // width % height
            d = voxel // (width * height)
            count = smaller(width - w, length - done)
            for output in range(len(outputs)):
                for a in range(box_d):
                    for b in range(box_h):
                        at = (output * rows + (a * box_h + b) * box_w) * PITCH + done
                        row = (d * box_d + a) * height * box_h + h * box_h + b
                        to = outputs[output] + size_of(out_kind) * (row * width * box_w + w * box_w)
                        _write_row(sums, at, box_w, line, count, out_kind, to)
            done += count


@kernel
def pool(
    planes,  # (first, last) pair of (map, output slice) of this thread
    shape,  # output slices, H, W of the input
    box,  # stride (D, H, W)
    source,  # Source
    outputs,  # address of every output map, of the kind of those read
    line,
):
    """Maximum of each box, after norm and activation."""
    addresses, affine, kind = source
    size = size_of(kind)
    depth, height, width = shape
    box_d, box_h, box_w = box
    rows, columns = height // box_h, width // box_w
    for plane in range(planes[0], planes[1]):
        c, d = plane // depth, plane % depth
        scale, shift = splat(affine[c, 0]), splat(affine[c, 1])
        slope = splat(affine[c, 2])
        for h in range(rows):
            for k in range(0, width, 16):
                best = splat(np.float32(-np.inf))
                for a in range(box_d):
                    for b in range(box_h):
                        row = (d * box_d + a) * height + h * box_h + b
                        at = addresses[c] + size * (row * width + k)
                        best = maximum(best, read_activated(kind, at, scale, shift, slope))
                store(line, k, best)
            to = outputs[c] + size * (d * rows + h) * columns
            if box_w == 2:
                for k in range(0, columns, 16):
                    even, odd = deal2(load(line, 2 * k), load(line, 2 * k + 16))
                    write_some(kind, to + size * k, maximum(even, odd), columns - k)
                continue
            for w in range(columns):
                best_voxel = line[w * box_w]
                for e in range(1, box_w):
                    if line[w * box_w + e] > best_voxel:
                        best_voxel = line[w * box_w + e]
                write_one(kind, to + size * w, best_voxel)
