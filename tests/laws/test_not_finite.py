"""No method lets a NaN or an infinity through, or hides whose it is."""

from __future__ import annotations

import numpy as np
import pytest
from registry import METHODS, NEEDED, has_base, parents_of, run
from zoo import random_values

from hubmerge.errors import MergeError


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_not_finite_is_named_with_its_model_and_entry(method: str, wrong: float) -> None:
    base = {"w": random_values((4, 3), 0)}
    parents = [{"w": random_values((4, 3), i + 1)} for i in range(parents_of(method))]
    parents[-1]["w"][2, 1] = wrong
    with pytest.raises(
        MergeError, match=rf"tensor 'w' of .*/parent{len(parents) - 1} is not finite: entry 7 is {wrong}"
    ):
        run(method, base, parents, **NEEDED.get(method, {}))
    if has_base(method):
        broken = {"w": base["w"].copy()}
        broken["w"][1, 0] = wrong
        sound = [{"w": random_values((4, 3), i + 1)} for i in range(parents_of(method))]
        with pytest.raises(MergeError, match=rf"tensor 'w' of .*/base is not finite: entry 3 is {wrong}"):
            run(method, broken, sound, **NEEDED.get(method, {}))
