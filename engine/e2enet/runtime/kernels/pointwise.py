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
from e2enet.runtime.kernels.vectors import (
    SLACK,
    deal2,
    fma,
    kernel,
    load,
    load_at,
    maximum,
    part,
    poke,
    splat,
    store,
    store_some,
    weave2,
)


def scratch(layers: Sequence[PointLayer]) -> tuple[np.ndarray, ...]:
    """What one thread needs for any of them: activated inputs, sums, a row of voxels."""
    return (
        aligned(max(len(layer.read) for layer in layers) * PITCH + SLACK),
        aligned(max(len(layer.live.begins) for layer in layers) * BLOCK * PITCH + SLACK),
        aligned(max(layer.box[2] for layer in layers) * PITCH + SLACK),
    )


@part
def _write_row(sums, at, box_w, line, count, to):
    """One row of output voxels from the sums of its box_w columns."""
    for k in range(0, count, 16):
        left = count - k
        if box_w == 1:
            store_some(to + 4 * k, load(sums, at + k), left)
        elif box_w == 2:
            y0, y1 = weave2(load(sums, at + k), load(sums, at + PITCH + k))
            store_some(to + 8 * k, y0, 2 * left)
            store_some(to + 8 * k + 64, y1, 2 * left - 16)
        else:
            for n in range(min(left, 16)):
                for e in range(box_w):
                    line[box_w * n + e] = sums[at + e * PITCH + k + n]
            for n in range(0, box_w * 16, 16):
                store_some(to + 4 * (box_w * k + n), load(line, n), box_w * left - n)


@kernel
def expand(
    blocks,  # (first, last) of this thread
    shape,  # first input slice, slices, H, W of the input
    box,  # stride (D, H, W)
    source,  # Source
    lists,  # Lists of each group of BLOCK rows
    factors,
    outputs,  # address of every output map, of the slice that input slice 0 would make
    scratch,
):
    """Compute the output boxes of some blocks of PITCH input voxels.

    A row of the product is an (output map, place in the box), padded to whole groups a map unless
    the box is a single voxel.
    """
    maps, sums, line = scratch
    addresses, affine = source
    inputs, begins = lists
    first_slice, slices, height, width = shape
    box_d, box_h, box_w = box
    places = box_d * box_h * box_w
    voxels = slices * height * width
    before = first_slice * height * width
    rows = places if places == 1 else -(-places // BLOCK) * BLOCK
    for block in range(blocks[0], blocks[1]):
        first = block * PITCH
        length = min(PITCH, voxels - first)
        for c in range(len(addresses)):
            scale, shift = splat(affine[c, 0]), splat(affine[c, 1])
            slope = splat(affine[c, 2])
            address = addresses[c] + 4 * (before + first)
            for k in range(0, length, 16):
                v = fma(load_at(address + 4 * k), scale, shift)
                store(maps, c * PITCH + k, maximum(v, v * slope))
        for group in range(len(begins) - 1):
            for half in range(0, length, WIDE):
                shared(
                    maps, half, factors, 0, inputs, begins[group], begins[group + 1],
                    sums, BLOCK * group * PITCH + half, PITCH,
                )  # fmt: skip
        done = 0
        while done < length:
            voxel = before + first + done
            w = voxel % width
            h = voxel // width % height
            d = voxel // (width * height)
            count = min(width - w, length - done)
            for output in range(len(outputs)):
                for a in range(box_d):
                    for b in range(box_h):
                        at = (output * rows + (a * box_h + b) * box_w) * PITCH + done
                        row = (d * box_d + a) * height * box_h + h * box_h + b
                        to = outputs[output] + 4 * (row * width * box_w + w * box_w)
                        _write_row(sums, at, box_w, line, count, to)
            done += count


@kernel
def pool(
    planes,  # (first, last) pair of (map, output slice) of this thread
    shape,  # output slices, H, W of the input
    box,  # stride (D, H, W)
    source,  # Source
    outputs,  # address of every output map
    line,
):
    """Maximum of each box, after norm and activation."""
    addresses, affine = source
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
                        v = fma(load_at(addresses[c] + 4 * (row * width + k)), scale, shift)
                        best = maximum(best, maximum(v, v * slope))
                store(line, k, best)
            to = outputs[c] + 4 * (d * rows + h) * columns
            if box_w == 2:
                for k in range(0, columns, 16):
                    even, odd = deal2(load(line, 2 * k), load(line, 2 * k + 16))
                    store_some(to + 4 * k, maximum(even, odd), columns - k)
                continue
            for w in range(columns):
                best_voxel = line[w * box_w]
                for e in range(1, box_w):
                    best_voxel = max(best_voxel, line[w * box_w + e])
                poke(to + 4 * w, best_voxel)
