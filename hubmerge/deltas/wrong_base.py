"""What tells that a model was not trained from the base it is compared with: how far it is from it, and deltas that are nearly one.

Deltas from a base that is not theirs have in common all that lies between the two bases, so they are large and alike.
"""

from __future__ import annotations

__all__ = ["TOO_ALIKE", "TOO_FAR", "alike_text", "far_text", "same_text"]

TOO_ALIKE = 0.9
"""Cosine of two deltas above which the base is doubted."""
TOO_FAR = 0.1
"""Norm of a delta over the base's above which the base is doubted."""


def alike_text(model: str, other: str, cosine: float) -> str:
    """What is said of two deltas above `TOO_ALIKE`."""
    return (
        f"{model} and {other}: the cosine of their deltas is {cosine:.3f}, above {TOO_ALIKE}: "
        "one is made of the other, or this is not the base they were trained from"
    )


def far_text(model: str, base: str, ratio: float) -> str:
    """What is said of a delta above `TOO_FAR`."""
    return (
        f"{model}: its delta has {ratio:.3f} of the norm of {base}, more than {TOO_FAR}: "
        "is this the base it was trained from?"
    )


def same_text(model: str) -> str:
    """What is said of a delta of zeros."""
    return f"{model} has the base's numbers everywhere: nothing was learned, and it is like no other"
