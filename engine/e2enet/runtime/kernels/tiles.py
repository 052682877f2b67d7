"""Tiles of maps in the transformed domain: how kernels read what they multiply.

A block is WIDE output tiles of 4 x 4 voxels, in the order of slices, rows and columns; lanes of a
vector are neighbouring tiles. Its input tiles, 6 x 6 and overlapping by two, become 36 planes of
WIDE lanes for each input map, two planes side by side (`accumulation`).
"""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.accumulation import PITCH, WIDE, ZERO
from e2enet.runtime.kernels.pairs import pack
from e2enet.runtime.kernels.traced import Memory, Register, Whole, traced
from e2enet.runtime.kernels.vectors import (
    deal4,
    keep_four,
    part,
    slide,
    slide_up,
    smaller,
    splat,
    store,
)
from e2enet.runtime.kernels.voxels import (
    read_activated_one,
    read_four,
    size_of,
)
from e2enet.runtime.kernels.winograd import SIZE, TILE, A, B

ROW = WIDE + 16  # lanes of a row of tiles; runs are written in whole vectors and may overrun
PLANES = SIZE * SIZE

_A, _A_MINUS, _B, _B_MINUS = (np.float32(v) for v in (A, -A, B, -B))
_MINUS_A2, _MINUS_B2 = np.float32(-A * A), np.float32(-B * B)
_MINUS_SUM, _PRODUCT = np.float32(-A * A - B * B), np.float32(A * A * B * B)


@part
def plane_pitch(maps):
    """Floats from one pair of planes to the next; not a power of two, which would share a set."""
    return maps * PITCH + 16


@part
def cut_runs(runs, first, last, tile_rows, tile_columns):
    """Cut the tiles from first to last into runs in one row: (slice, row, column, count, lane)."""
    count = 0
    tile = first
    while tile < last:
        column = tile % tile_columns
        row = tile // tile_columns
        length = smaller(tile_columns - column, last - tile)
        runs[count, 0] = row // tile_rows
        runs[count, 1] = row % tile_rows
        runs[count, 2] = column
        runs[count, 3] = length
        runs[count, 4] = tile - first
        tile += length
        count += 1
    return count


def _polynomial(d: list[Register]) -> list[Register]:
    """B^T d: six neighbours -> their polynomial at the six points."""
    even_a, odd_a = d[2].fma(_MINUS_B2, d[4]), d[1].fma(_MINUS_B2, d[3])
    even_b, odd_b = d[2].fma(_MINUS_A2, d[4]), d[1].fma(_MINUS_A2, d[3])
    return [
        d[0].fma(_PRODUCT, d[2].fma(_MINUS_SUM, d[4])),
        odd_a.fma(_A, even_a),
        odd_a.fma(_A_MINUS, even_a),
        odd_b.fma(_B, even_b),
        odd_b.fma(_B_MINUS, even_b),
        d[1].fma(_PRODUCT, d[3].fma(_MINUS_SUM, d[5])),
    ]


@traced(0)
def _store_points(
    rows: Memory,
    to: Whole,
    before: Register,
    d1: Register,
    d2: Register,
    d3: Register,
    d4: Register,
    after: Register,
) -> None:
    for point, register in enumerate(_polynomial([before, d1, d2, d3, d4, after])):
        rows.store(to + ROW * point, register)


@part
def rows_to_points(
    runs, count, rows, kind, base, depth, height, width, step, offset, scale, shift, slope
):
    """Transform along the rows of the input tiles: rows[6 * row + point][lane].

    Norm and activation are applied on the way; what lies outside the volume is zero after them.
    A slice is read `offset`, the depth-shift of its map, before its place.
    """
    zero = splat(ZERO)
    size = size_of(kind)
    scales, shifts, slopes = splat(scale), splat(shift), splat(slope)
    for n in range(count):
        source = runs[n, 0] * step - offset
        column, length, lane = runs[n, 2], runs[n, 3], runs[n, 4]
        for i in range(SIZE):
            row = TILE * runs[n, 1] - 1 + i
            to = SIZE * i * ROW + lane
            if source < 0 or source >= depth or row < 0 or row >= height:
                for k in range(0, length, 16):
                    for point in range(SIZE):
                        store(rows, to + point * ROW + k, zero)
                continue
            for k in range(0, length, 16):
                left = TILE * (column + k)
                address = base + size * (width * (source * height + row) + left)
                d1, d2, d3, d4 = read_four(kind, address, scales, shifts, slopes)
                valid = width - left
                before = after = ZERO
                if left > 0:
                    before = read_activated_one(kind, address - size, scale, shift, slope)
                if valid > 64:
                    after = read_activated_one(kind, address + 64 * size, scale, shift, slope)
                elif valid < 64:
                    d1, d2, d3, d4 = keep_four(d1, d2, d3, d4, valid)
                d1, d2, d3, d4 = deal4(d1, d2, d3, d4)
                _store_points(rows, to + k, slide_up(before, d4), d1, d2, d3, d4, slide(d1, after))


@part
def columns_to_points(rows, maps, at, pitch):
    """Transform along the columns: plane 6 * point + column of one map, from `at` on."""
    for column in range(SIZE):
        for lane in range(0, WIDE, 16):
            # Plane 6 p + column is half (column % 2) of pair 3 p + column // 2.
            to = at + column // 2 * pitch + column % 2 * WIDE + lane
            _store_column(rows, column * ROW + lane, maps, to, 3 * pitch)


@traced(0)
def _store_column(rows: Memory, i: Whole, maps: Memory, to: Whole, pitch: Whole) -> None:
    for point, register in enumerate(_polynomial(_column(rows, i))):
        maps.store(to + pitch * point, register)


@part
def columns_to_pairs(rows, maps, at, pitch):
    """Transform along the columns to bfloat16: plane 6 * point + column of one map, from `at` on.

    Four planes lie side by side, WIDE lanes of each in one register (`pairs.pack`).
    """
    for column in range(SIZE):
        even = at + column // 4 * pitch + column % 4 * 16
        odd = at + (column + 2) // 4 * pitch + (column + 2) % 4 * 16
        _store_pack(rows, column * ROW, maps, even, odd + pitch, 3 * pitch)


@traced(0)
def _store_pack(
    rows: Memory, i: Whole, maps: Memory, even: Whole, odd: Whole, pitch: Whole
) -> None:
    low, high = _polynomial(_column(rows, i)), _polynomial(_column(rows, i + 16))
    for point in range(SIZE):
        to = (odd if point % 2 else even) + pitch * (point // 2)
        maps.store(to, pack(low[point], high[point]))


def _column(rows: Memory, i: Whole) -> list[Register]:
    """A point of sixteen tiles, in each of their rows."""
    return [rows.load(i + SIZE * ROW * row) for row in range(SIZE)]
