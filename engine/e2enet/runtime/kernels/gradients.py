"""Kernels that training needs beside those of inference.

The gradient of the input of a convolution is a convolution again (`convolution.convolve` with the
lists turned round and the kernels flipped). Here are the gradients of live kernels, summed in the
transformed domain (`winograd`), where a connection costs 36 multiplications instead of 144.
"""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.accumulation import PITCH, WIDE, ZERO
from e2enet.runtime.kernels.memory import aligned
from e2enet.runtime.kernels.tiles import (
    PLANES,
    ROW,
    columns_to_points,
    cut_runs,
    plane_pitch,
    rows_to_points,
)
from e2enet.runtime.kernels.vectors import (
    LANES,
    deal2,
    deal4,
    fma,
    keep,
    kernel,
    load,
    load_at,
    maximum,
    part,
    peek,
    poke,
    splat,
    store,
    total,
    weave2,
    where_positive,
)
from e2enet.runtime.kernels.voxels import store_some
from e2enet.runtime.kernels.winograd import SIZE, TILE, A, B

CHUNK = 4  # live inputs of an output map that are summed together: lists are padded to it

_BOX = PITCH + 16  # lanes of a place; runs are written in whole vectors and may overrun

_A, _A3, _B, _B3 = (np.float32(v) for v in (A, A**3, B, B**3))
_A2, _B2 = np.float32(A * A), np.float32(B * B)


def scratch(maps: int, outputs: int) -> tuple[np.ndarray, ...]:
    """What one thread needs for so many input and output maps at most."""
    return (
        aligned(PLANES // 2 * (maps * PITCH + 16)),
        aligned(PLANES // 2 * (outputs * PITCH + 16)),
        aligned(PLANES * ROW),
        aligned(4 * 16),
        np.zeros((WIDE, 5), np.int64),
    )


def box_scratch(outputs: int, places: int) -> tuple[np.ndarray]:
    """What one thread needs for the boxes of so many output maps."""
    return (aligned(outputs * places * _BOX + LANES),)


@part
def _spread(y0, y1, y2, y3):
    """A y: four neighbours -> their polynomial at the six points, the reverse of A^T m."""
    even_a, odd_a = fma(y2, splat(_A2), y0), fma(y3, splat(_A3), y1 * splat(_A))
    even_b, odd_b = fma(y2, splat(_B2), y0), fma(y3, splat(_B3), y1 * splat(_B))
    return y0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y3


@part
def _gradient_rows(runs, count, rows, base, height, width):
    """Spread the rows of the output tiles: rows[6 * row + point][lane], zero outside the volume."""
    zero = splat(ZERO)
    for n in range(count):
        column, length, lane = runs[n, 2], runs[n, 3], runs[n, 4]
        for i in range(TILE):
            row = TILE * runs[n, 1] + i
            for k in range(0, length, 16):
                to = SIZE * i * ROW + lane + k
                if row >= height:
                    for point in range(SIZE):
                        store(rows, to + point * ROW, zero)
                    continue
                left = TILE * (column + k)
                address = base + 4 * (width * (runs[n, 0] * height + row) + left)
                y0, y1 = load_at(address), load_at(address + 64)
                y2, y3 = load_at(address + 128), load_at(address + 192)
                valid = width - left
                if valid < 64:
                    y0, y1 = keep(y0, valid), keep(y1, valid - 16)
                    y2, y3 = keep(y2, valid - 32), keep(y3, valid - 48)
                y0, y1, y2, y3 = deal4(y0, y1, y2, y3)
                p0, p1, p2, p3, p4, p5 = _spread(y0, y1, y2, y3)
                store(rows, to, p0)
                store(rows, to + ROW, p1)
                store(rows, to + 2 * ROW, p2)
                store(rows, to + 3 * ROW, p3)
                store(rows, to + 4 * ROW, p4)
                store(rows, to + 5 * ROW, p5)


@part
def _gradient_columns(rows, maps, at, pitch, tiles):
    """Spread the columns; lanes beyond the last tile become zero."""
    for column in range(SIZE):
        for lane in range(0, WIDE, 16):
            i = column * ROW + lane
            s = SIZE * ROW
            count = tiles - lane
            p0, p1, p2, p3, p4, p5 = _spread(
                keep(load(rows, i), count),
                keep(load(rows, i + s), count),
                keep(load(rows, i + 2 * s), count),
                keep(load(rows, i + 3 * s), count),
            )
            to = at + column // 2 * pitch + column % 2 * WIDE + lane
            store(maps, to, p0)
            store(maps, to + 3 * pitch, p1)
            store(maps, to + 6 * pitch, p2)
            store(maps, to + 9 * pitch, p3)
            store(maps, to + 12 * pitch, p4)
            store(maps, to + 15 * pitch, p5)


@part
def _join(u, v):
    """Sums of neighbouring lanes: those of u, then those of v."""
    even, odd = deal2(u, v)
    return even + odd


@part
def _dot(maps, at, y0, y1):
    return fma(load(maps, at + 16), y1, load(maps, at) * y0)


@part
def _flush(waiting, sums, at):
    """Add four times four sums, each still in four lanes."""
    low = _join(load(waiting, 0), load(waiting, 16))
    high = _join(load(waiting, 32), load(waiting, 48))
    store(sums, at, load(sums, at) + _join(low, high))


@kernel
def kernel_gradients(
    blocks,  # (first, last) of this thread
    shape,  # depth, H, W
    source,  # Source
    shifts,  # depth-shift of every input map in slices
    gradients,  # address of slice 0 of every output map's gradient
    lists,  # Lists of the output maps, each padded to CHUNK
    sums,  # (36 * live) of this thread, live padded to 16
    scratch,
):
    """Add the gradients of the transformed live kernels over some blocks of tiles."""
    maps, spread, rows, waiting, runs = scratch
    addresses, affine, kind = source
    inputs, begins = lists
    depth, height, width = shape
    tile_rows, tile_columns = -(-height // TILE), -(-width // TILE)
    tiles = depth * tile_rows * tile_columns
    pitch, other = plane_pitch(len(addresses)), plane_pitch(len(gradients))
    live = len(sums) // PLANES
    zero = splat(ZERO)
    for block in range(blocks[0], blocks[1]):
        first = block * WIDE
        last = min(first + WIDE, tiles)
        count = cut_runs(runs, first, last, tile_rows, tile_columns)
        for c in range(len(addresses)):
            rows_to_points(
                runs, count, rows, kind, addresses[c], depth, height, width, 1, shifts[c],
                affine[c, 0], affine[c, 1], affine[c, 2],
            )  # fmt: skip
            columns_to_points(rows, maps, c * PITCH, pitch)
        for output in range(len(gradients)):
            _gradient_rows(runs, count, rows, gradients[output], height, width)
            _gradient_columns(rows, spread, output * PITCH, other, last - first)
        for plane in range(PLANES):
            at = plane // 2 * pitch + plane % 2 * WIDE
            their = plane // 2 * other + plane % 2 * WIDE
            to = plane * live
            full = 0
            for output in range(len(gradients)):
                y0 = load(spread, their + PITCH * output)
                y1 = load(spread, their + PITCH * output + 16)
                for n in range(begins[output], begins[output + 1], CHUNK):
                    low = _join(
                        _dot(maps, at + PITCH * inputs[n], y0, y1),
                        _dot(maps, at + PITCH * inputs[n + 1], y0, y1),
                    )
                    high = _join(
                        _dot(maps, at + PITCH * inputs[n + 2], y0, y1),
                        _dot(maps, at + PITCH * inputs[n + 3], y0, y1),
                    )
                    store(waiting, 16 * full, _join(low, high))
                    full += 1
                    if full == 4:
                        _flush(waiting, sums, to)
                        to += 16
                        full = 0
            if full:
                for k in range(full, 4):
                    store(waiting, 16 * k, zero)
                _flush(waiting, sums, to)


@kernel
def contract(
    blocks,  # (first, last) of this thread
    shape,  # depth, H, W of the input
    box,  # stride (D, H, W)
    addresses,  # of every input map
    gradients,  # address of every output map's gradient
    lists,  # Lists of the input maps
    factors,  # (live * places) their kernels
    targets,  # address of every input map's gradient
    sums,  # (live * places) of this thread: gradients of the kernels
    scratch,
):
    """Gradients of a transposed convolution whose kernel is its stride (`pointwise.expand`).

    Blocks of PITCH input voxels. The gradients of their boxes are read once, place by place.
    """
    (boxes,) = scratch
    outputs, begins = lists
    depth, height, width = shape
    box_d, box_h, box_w = box
    places = box_d * box_h * box_w
    voxels = depth * height * width
    zero = splat(ZERO)
    for block in range(blocks[0], blocks[1]):
        first = block * PITCH
        length = min(PITCH, voxels - first)
        for o in range(len(gradients)):
            done = 0
            while done < length:
                w = (first + done) % width
                h = (first + done) // width % height
                d = (first + done) // (width * height)
                count = min(width - w, length - done)
                for a in range(box_d):
                    for b in range(box_h):
                        row = (d * box_d + a) * height * box_h + h * box_h + b
                        source = gradients[o] + 4 * (row * width + w) * box_w
                        to = (o * places + (a * box_h + b) * box_w) * _BOX + done
                        _deal(source, box_w, count, boxes, to)
                done += count
        if length < PITCH:
            for row in range(len(gradients) * places):
                for k in range(0, PITCH, 16):
                    at = row * _BOX + k
                    store(boxes, at, keep(load(boxes, at), length - k))
        for c in range(len(addresses)):
            source = addresses[c] + 4 * first
            x0, x1 = keep(load_at(source), length), keep(load_at(source + 64), length - 16)
            x2 = keep(load_at(source + 128), length - 32)
            x3 = keep(load_at(source + 192), length - 48)
            d0 = zero
            d1, d2, d3 = d0, d0, d0
            for n in range(begins[c], begins[c + 1]):
                at = outputs[n] * places * _BOX
                for p in range(places):
                    y0, y1 = load(boxes, at), load(boxes, at + 16)
                    y2, y3 = load(boxes, at + 32), load(boxes, at + 48)
                    u = splat(factors[n * places + p])
                    d0, d1 = fma(y0, u, d0), fma(y1, u, d1)
                    d2, d3 = fma(y2, u, d2), fma(y3, u, d3)
                    sums[n * places + p] += total(fma(x0, y0, x1 * y1) + fma(x2, y2, x3 * y3))
                    at += _BOX
            to = targets[c] + 4 * first
            store_some(to, d0, length)
            store_some(to + 64, d1, length - 16)
            store_some(to + 128, d2, length - 32)
            store_some(to + 192, d3, length - 48)


@part
def _deal(source, box_w, count, boxes, to):
    """A row of voxels, every box_w-th to one place; lanes beyond the row are written anew later."""
    if box_w == 1:
        for k in range(0, count, 16):
            store(boxes, to + k, load_at(source + 4 * k))
    elif box_w == 2:
        for k in range(0, count, 16):
            even, odd = deal2(load_at(source + 8 * k), load_at(source + 8 * k + 64))
            store(boxes, to + k, even)
            store(boxes, to + _BOX + k, odd)
    else:
        for k in range(count):
            for e in range(box_w):
                boxes[to + e * _BOX + k] = peek(source + 4 * (k * box_w + e))


@kernel
def pool_gradients(
    planes,  # (first, last) pair of (map, output slice) of this thread
    shape,  # output slices, H, W of the input
    box,  # stride (D, H, W)
    addresses,  # of every input map
    gradients,  # address of every output map's gradient
    targets,  # address of every input map's gradient
):
    """Gradients of max pooling (`pointwise.pool`): all of it to the first maximum of its box."""
    depth, height, width = shape
    box_d, box_h, box_w = box
    rows, columns = height // box_h, width // box_w
    for plane in range(planes[0], planes[1]):
        c, d = plane // depth, plane % depth
        for h in range(rows):
            corner = 4 * width * (d * box_d * height + h * box_h)
            upstream = gradients[c] + 4 * columns * (d * rows + h)
            x, dx = addresses[c] + corner, targets[c] + corner
            if box_w == 2:
                _pool_pairs(x, upstream, dx, box_d, box_h, height, width)
            else:
                _pool_boxes(x, upstream, dx, box_d, box_h, box_w, height, width)


@part
def _pool_pairs(x, upstream, dx, box_d, box_h, height, width):
    """A row of boxes that are two voxels wide."""
    zero = splat(ZERO)
    for k in range(0, width, 32):
        best = splat(np.float32(-np.inf))
        for a in range(box_d):
            for b in range(box_h):
                at = x + 4 * (width * (a * height + b) + k)
                even, odd = deal2(load_at(at), load_at(at + 64))
                best = maximum(best, maximum(even, odd))
        left = load_at(upstream + 2 * k)  # of the gradient, until the maximum has got it
        for a in range(box_d):
            for b in range(box_h):
                row = 4 * (width * (a * height + b) + k)
                even, odd = deal2(load_at(x + row), load_at(x + row + 64))
                even_below, odd_below = best - even, best - odd
                even_grad = where_positive(even_below, zero, left)
                left = where_positive(even_below, left, zero)
                odd_grad = where_positive(odd_below, zero, left)
                left = where_positive(odd_below, left, zero)
                low, high = weave2(even_grad, odd_grad)
                store_some(dx + row, low, width - k)
                store_some(dx + row + 64, high, width - k - 16)


@part
def _pool_boxes(x, upstream, dx, box_d, box_h, box_w, height, width):
    """A row of boxes of any width."""
    for w in range(width // box_w):
        place = 4 * w * box_w
        best = peek(x + place)
        for a in range(box_d):
            for b in range(box_h):
                for e in range(box_w):
                    at = 4 * (width * (a * height + b) + w * box_w + e)
                    poke(dx + at, ZERO)
                    voxel = peek(x + at)
                    if voxel > best:
                        best, place = voxel, at
        poke(dx + place, peek(upstream + 4 * w))
