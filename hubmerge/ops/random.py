"""Random numbers without a state: a function of a key and an entry's index, so that no order of work changes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hubmerge.jit import jitable

__all__ = ["uniform_bits"]


@jitable
def uniform_bits(key: Any, index: Any) -> Any:
    """32 random bits for entry `index` of the tensor that `key`, 64 bits, stands for.

    Two rounds of a 32-bit mixer (xor with a shift, multiply by an odd number; constants from C. Wellons' search for mixers of
    low bias), the first after the key's lower half was added to the index, the second after its upper half was added: for one
    key a permutation of the indices below 2^32, for different keys unrelated ones; in a tensor of more entries the numbers
    begin again.  A loop over `index`, as a uint32, is vectorised at full width.
    """
    x = np.uint32(np.uint32(index) + np.uint32(key))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x + np.uint32(np.uint64(key) >> np.uint64(32)))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x21F0AAAD))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0xD35A2D97))
    return np.uint32(x ^ (x >> np.uint32(15)))
