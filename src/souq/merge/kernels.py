"""Loops over blocks of numbers, compiled by numba: the same float32 arithmetic in the same order on every machine.

One output element is computed by one thread in a written order, nothing is reassociated or contracted (no fastmath),
and what is random is a function of a key and the element's position. A block is raw (T, n): T tensors' next n elements
as bf16 bits (uint16) or float32, beside base (n,) of the same kind; `tile` elements at a time stay in the nearest cache.
Knows arrays; has never heard of names, files or methods.

    >>> out = np.empty(2, np.float32)
    >>> ones = np.ones((2, 2), np.float32)
    >>> combine(ones, ones[0], False, np.array([[1.0, 2.0]], np.float32), 2, 0, out)
    >>> out.tolist()
    [3.0, 3.0]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

TILE = 2048
LANES = 16  # sums run in so many lanes side by side, by position, whatever the size of a block
HIGH, LOW = 1 << 15, 1 << 16  # bins: the upper 15 bits of a magnitude, then its lower 16
_SIGNLESS = np.uint32(0x7FFFFFFF)

_compile: Any = njit(nogil=True, cache=True)
_inline: Any = njit(nogil=True, cache=True, inline="always")


@_inline
def _load(raw, start, n, tile, bits):
    """Widen elements start..start+n to float32 (tile); bits is the same memory as uint32."""
    if raw.itemsize == 2:
        for i in range(n):
            bits[i] = np.uint32(raw[start + i]) << np.uint32(16)
    else:
        for i in range(n):
            tile[i] = raw[start + i]


@_inline
def _difference(raw, base, start, n, tile, bits):
    """tile = raw - base, exact for bf16 unless the exponents differ by more than 16."""
    _load(raw, start, n, tile, bits)
    for i in range(n):
        tile[i] -= base[i]


@_compile
def combine(raw, base, based, weights, row, skipped, out):
    """out (n,) = [base +] sum_t weights[r, t] * (raw[t] [- base]), added in the order of t, r the element's row.

    The block begins at a row's first element or lies within one row; r counts from row `skipped` of the tensor.
    """
    count, n = raw.shape
    tile, zero = np.empty(TILE, np.float32), np.zeros(TILE, np.float32)
    bits, zero_bits = tile.view(np.uint32), zero.view(np.uint32)
    for first in range(0, n, row):
        last = min(first + row, n)
        factors = weights[first // row + skipped]
        for start in range(first, last, TILE):
            m = min(TILE, last - start)
            total = out[start : start + m]
            if based:
                _load(base, start, m, zero, zero_bits)
            total[:] = np.float32(0)
            for t in range(count):
                _difference(raw[t], zero, start, m, tile, bits)
                for i in range(m):
                    total[i] += factors[t] * tile[i]
            if based:
                for i in range(m):
                    total[i] += zero[i]


@_compile
def inner_products(raw, base, based, row, skipped, lanes):
    """Add to lanes (R, T, T, LANES) the products of the tensors [minus base], rows as in `combine`."""
    count, n = raw.shape
    tiles = np.empty((count, TILE), np.float32)
    zero = np.zeros(TILE, np.float32)
    bits, zero_bits = tiles.view(np.uint32), zero.view(np.uint32)
    for first in range(0, n, row):
        last = min(first + row, n)
        into = lanes[first // row + skipped]
        for start in range(first, last, TILE):
            m = min(TILE, last - start)
            if based:
                _load(base, start, m, zero, zero_bits)
            for t in range(count):
                _difference(raw[t], zero, start, m, tiles[t], bits[t])
            for s in range(count):
                for t in range(s + 1):
                    _add_products(tiles[s], tiles[t], m, into[s, t])


@_inline
def _add_products(a, b, n, lanes):
    whole = n - n % LANES
    for i in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += np.float64(a[i + j]) * np.float64(b[i + j])
    for i in range(whole, n):
        lanes[i - whole] += np.float64(a[i]) * np.float64(b[i])


@_compile
def histogram(raw, base, high, counts):
    """Count magnitudes of raw[t] - base. high[t] < 0: by their upper 15 bits; else, of those in bin high[t], by the rest.

    The bits of a float without its sign are ordered as the float is, so bins are exact (spec, section 12).
    """
    count, n = raw.shape
    tile, zero = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    bits, zero_bits = tile.view(np.uint32), zero.view(np.uint32)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        _load(base, start, m, zero, zero_bits)
        for t in range(count):
            _difference(raw[t], zero, start, m, tile, bits)
            _count(bits, m, high[t], counts[t])


@_inline
def _count(bits, n, high, counts):
    if high < 0:
        for i in range(n):
            counts[(bits[i] & _SIGNLESS) >> np.uint32(16)] += 1
    else:
        for i in range(n):
            if (bits[i] & _SIGNLESS) >> np.uint32(16) == high:
                counts[bits[i] & np.uint32(0xFFFF)] += 1


@_inline
def _mix(x):
    """MurmurHash3's 32-bit finaliser (Appleby, public domain): every input bit moves every output bit."""
    x = np.uint32((x ^ (x >> 16)) * 0x85EBCA6B)  # numba widens to 64 bits; the cast wraps
    x = np.uint32((x ^ (x >> 13)) * 0xC2B2AE35)
    return np.uint32(x ^ (x >> 16))


@_inline
def _uniform(position, key):
    """A uint32 that is a function of a key (two uint32) and a position alone."""
    first = _mix(np.uint32(position) ^ key[0])
    return _mix(np.uint32(first ^ np.uint32(key[1] + (position >> 32) * 0x9E3779B1)))


@_inline
def _keep_between(tile, bits, n, low, low_left, high, high_left):
    """Zero what is not in the band. Equals of `low` stay until low_left are used up; equals of `high` go until high_left are.

    Returns how many are left of each.
    """
    lows, highs = 0, 0
    for i in range(n):
        size = bits[i] & _SIGNLESS
        lows += size == low
        highs += size == high
    if (lows <= low_left or low_left == 0) and (highs <= high_left or high_left == 0):
        least = low if low_left else low + np.uint32(1)  # inclusive
        most = high if high_left == 0 else high - np.uint32(1)
        for i in range(n):
            size = bits[i] & _SIGNLESS
            bits[i] = bits[i] if least <= size <= most else np.uint32(0)
        return max(low_left - lows, 0), max(high_left - highs, 0)
    for i in range(n):  # the one tile in which a share of equals runs out
        size = bits[i] & _SIGNLESS
        kept = low < size < high
        if size == high:
            kept = high_left == 0
            high_left -= high_left > 0
        if size == low and (kept or low != high):
            kept = low_left > 0
            low_left -= low_left > 0
        bits[i] = bits[i] if kept else np.uint32(0)
    return low_left, high_left


@_inline
def _keep_random(bits, n, position, key, chance):
    for i in range(n):
        bits[i] = bits[i] if _uniform(position + i, key) < chance else np.uint32(0)


@_inline
def _keep_by_rank(tile, bits, start, n, row, position, key, density, epsilon, whole, ranks):
    """DELLA: the chance to stay rises with an element's rank in its row, from density - epsilon to density + epsilon."""
    for i in range(n):
        at = start + i
        share = np.float32(ranks[at]) / np.float32(max(row - 1, 1))
        chance = (density - epsilon) + share * 2 * epsilon
        kept = _uniform(position + i, key) < np.uint32(min(chance, whole) * np.float64(4294967295.0))
        bits[i] = bits[i] if kept else np.uint32(0)


@_compile
def sparsify(
    raw, base, position, row, mode, low, low_left, high, high_left, keys, chance, epsilon, measured, kept, lanes
):
    """kept (T, n) = the differences that stay, the others zero; where `measured`, |d| before and after go to lanes (T, 2, LANES).

    mode 0: all; 1: magnitudes in a band; 2: at random; 3: at random by rank in the row. low_left and high_left (T,)
    are used up from call to call. n is a whole number of rows where mode is 3.
    """
    count, n = raw.shape
    tile, zero = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    bits, zero_bits = tile.view(np.uint32), zero.view(np.uint32)
    ranks = np.empty(n if mode == 3 else 0, np.int32)
    whole = np.zeros(n if mode == 3 else 0, np.float32)
    for t in range(count):
        if mode == 3:
            _rank_rows(raw[t], base, row, whole, ranks)
        for start in range(0, n, TILE):
            m = min(TILE, n - start)
            _load(base, start, m, zero, zero_bits)
            _difference(raw[t], zero, start, m, tile, bits)
            if measured:
                _add_sizes(tile, m, lanes[t, 0])
            if mode == 1:
                low_left[t], high_left[t] = _keep_between(tile, bits, m, low[t], low_left[t], high[t], high_left[t])
            elif mode == 2:
                _keep_random(bits, m, position + start, keys[t], np.uint32(min(chance[t] * 4294967296.0, 4294967295.0)))
            elif mode == 3:
                _keep_by_rank(tile, bits, start, m, row, position + start, keys[t], chance[t], epsilon[t], 1.0, ranks)
            if measured:
                _add_sizes(tile, m, lanes[t, 1])
            for i in range(m):
                kept[t, start + i] = tile[i]


@_inline
def _add_sizes(tile, n, lanes):
    whole = n - n % LANES
    for i in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += np.float64(abs(tile[i + j]))
    for i in range(whole, n):
        lanes[i - whole] += np.float64(abs(tile[i]))


@_inline
def _rank_rows(raw, base, row, whole, ranks):
    n = len(ranks)
    zero = np.empty(n, np.float32)
    _load(base, 0, n, zero, zero.view(np.uint32))
    _difference(raw, zero, 0, n, whole, whole.view(np.uint32))
    for start in range(0, n, row):
        order = np.argsort(np.abs(whole[start : start + row]), kind="mergesort")  # equals in the order of their places
        for rank in range(len(order)):
            ranks[start + order[rank]] = rank


@_compile
def agree(kept, base, weights, scales, votes, elect, normalise, scale, out):
    """out (n,) = base + scale * sum_t w_t d_t, over those of the elected sign where `elect`; kept (T, n) is d before weights.

    The elected sign is that of sum_t votes_t d_t, zero counting as plus. `normalise` divides by the weights that took part.
    """
    count, n = kept.shape
    total, mixed, parts = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    zero = np.empty(TILE, np.float32)
    zero_bits = zero.view(np.uint32)
    everyone = np.float32(0)
    for t in range(count):
        everyone += weights[t]
    if abs(everyone) < 1e-8:
        everyone = np.float32(1)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        _load(base, start, m, zero, zero_bits)
        total[:] = np.float32(0)
        for t in range(count):
            factor = votes[t] if elect else weights[t]
            for i in range(m):
                total[i] += kept[t, start + i] * scales[t] * factor
        if elect:
            _elect(kept, start, m, weights, scales, total, mixed, parts)
            for i in range(m):
                total[i] = mixed[i]
                parts[i] = np.float32(1) if parts[i] == 0 else parts[i]
        else:
            parts[:] = everyone
        for i in range(m):
            told = total[i] / parts[i] if normalise else total[i]
            out[start + i] = zero[i] + scale * told


@_inline
def _elect(kept, start, n, weights, scales, total, mixed, parts):
    mixed[:] = np.float32(0)
    parts[:] = np.float32(0)
    for t in range(kept.shape[0]):
        for i in range(n):
            told = kept[t, start + i] * scales[t] * weights[t]
            same = (told > 0) == (total[i] >= 0) and told != 0
            mixed[i] += told if same else np.float32(0)
            parts[i] += weights[t] if same else np.float32(0)


@_compile
def variance(raw, base, out):
    """out (n,) = the variance over t of raw[t] - base (divided by T)."""
    count, n = raw.shape
    tiles = np.empty((count, TILE), np.float32)
    zero = np.empty(TILE, np.float32)
    bits, zero_bits = tiles.view(np.uint32), zero.view(np.uint32)
    share = np.float32(1) / np.float32(count)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        _load(base, start, m, zero, zero_bits)
        for t in range(count):
            _difference(raw[t], zero, start, m, tiles[t], bits[t])
        for i in range(m):
            mean = np.float32(0)
            for t in range(count):
                mean += tiles[t, i]
            mean *= share
            spread = np.float32(0)
            for t in range(count):
                spread += (tiles[t, i] - mean) * (tiles[t, i] - mean)
            out[start + i] = spread * share


@_compile
def to_bf16(x, out):
    """float32 (n,) to bf16 bits (n,), to nearest even. False where an element is NaN or infinite."""
    bits = x.view(np.uint32)
    worst = np.uint32(0)
    for i in range(len(x)):
        told = bits[i]
        worst = max(worst, told & np.uint32(0x7F800000))
        out[i] = np.uint16((told + np.uint32(0x7FFF) + ((told >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
    return worst != np.uint32(0x7F800000)
