"""The numeric proof of a symmetry table: a model, and the same model after a random symmetry, give equal answers.

A table is believed when `prove` holds for a model of its family, and not before.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.symmetry.elements import random_element
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.load import load_spec
from hubmerge.symmetry.transform import transform

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "Proof",
    "answers",
    "answers_among",
    "drawn_anew",
    "example_inputs",
    "largest_difference",
    "prove",
    "spec_of",
]

_ANSWERS = re.compile(r"logits(_per_\w+)?|\w+_logits|\w+_embeds|reconstruction")
_STATES = ("last_hidden_state", "pooler_output")


@dataclass(frozen=True)
class Proof:
    """What `prove` found.

    error: the norm of the answers' difference over that of the answers, the largest over all of a model's answers.
    tolerance: what it may be.  groups: how many groups were changed.
    """

    error: float
    tolerance: float
    groups: int

    @property
    def holds(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}: {self.groups} groups changed, relative error {self.error:.1e}"


def prove(
    model: torch.nn.Module,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    tolerance: float = 1e-4,
    spec: SymmetrySpec | None = None,
) -> Proof:
    """Test the symmetry table of a transformers model's family on its architecture.

    The weights are drawn anew (`drawn_anew`), so that no gain is 1, no bias 0 and nothing small enough to hide a difference;
    the model given is not changed.  inputs: by the names of the model's arguments, else `example_inputs`.  spec: instead of
    the table's.  Computed in float64.  Raises `SymmetryError` as `load_spec` does.
    """
    spec = spec_of(model) if spec is None else spec
    fresh = drawn_anew(model, seed)
    element = random_element(spec, seed)
    given = example_inputs(model, seed) if inputs is None else inputs
    before = answers(fresh, given)
    fresh.load_state_dict(transform(spec, fresh.state_dict(), element))
    return Proof(largest_difference(before, answers(fresh, given)), tolerance, len(element))


def spec_of(model: Any) -> SymmetrySpec:
    """The symmetries of a transformers model in memory, by the names of its `state_dict`."""
    name = type(model).__name__
    config = {**model.config.to_dict(), "architectures": [name]}
    return load_spec(config, {key: tuple(value.shape) for key, value in model.state_dict().items()}, where=name)


def drawn_anew(model: Any, seed: int) -> Any:
    """A float64 copy in evaluation mode with random weights, a function of the seed: matrices of normal numbers over the root
    of their columns, gains around 1, biases and means around 0 with deviation .3, variances exp(.3 n).
    """
    import torch

    fresh = copy.deepcopy(model).to(torch.float64).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in (*fresh.named_parameters(), *fresh.named_buffers()):
            if values.is_floating_point() and values.dim() and "inv_freq" not in name:
                noise = torch.randn(values.shape, generator=random, dtype=torch.float64)
                values.copy_(_drawn(name, noise))
    return fresh


def _drawn(name: str, noise: Tensor) -> Tensor:
    if name.endswith("running_var"):
        return (0.3 * noise).exp()
    if noise.dim() == 1:
        return 0.3 * noise + (1.0 if name.endswith("weight") else 0.0)
    return noise / math.sqrt(noise.numel() / noise.shape[0])


def example_inputs(model: Any, seed: int) -> dict[str, Tensor]:
    """Inputs for the model's `forward`: two pictures of noise, two texts of seven random tokens, or both."""
    import inspect

    import torch

    random = torch.Generator().manual_seed(seed)
    config = model.config
    arguments = inspect.signature(model.forward).parameters
    inputs: dict[str, Tensor] = {}
    if "input_ids" in arguments:
        tokens = getattr(config, "text_config", config).vocab_size
        inputs["input_ids"] = torch.randint(3, tokens, (2, 7), generator=random)
        if "decoder_input_ids" in arguments:
            inputs["decoder_input_ids"] = torch.randint(3, tokens, (2, 5), generator=random)
    if "pixel_values" in arguments:
        picture = getattr(config, "vision_config", config)
        size = getattr(picture, "image_size", 32)
        shape = (2, picture.num_channels, size, size)
        inputs["pixel_values"] = torch.randn(shape, generator=random, dtype=torch.float64)
    return inputs


def largest_difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """The norm of the answers' difference over that of the answers before, the largest over all answers."""
    import torch

    errors = [(after[name] - value).norm() / value.norm() for name, value in before.items()]
    return float(torch.stack(errors).max())  # not a number where one of them is not


def answers(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model's caller asks for, of the model's output for `inputs` (`answers_among`)."""
    import torch

    with torch.no_grad():
        return answers_among(model(**inputs))


def answers_among(output: Mapping[str, Any]) -> dict[str, Tensor]:
    """Logits, embeddings and maps of features, or the last states where there are no others.

    Raises `SymmetryError` for an output that has none of these.
    """
    found = {name: value for name, value in output.items() if _ANSWERS.fullmatch(name) and value is not None}
    features = output.get("feature_maps") or ()
    found |= {f"feature_maps.{place}": value for place, value in enumerate(features)}
    found = found or {name: output[name] for name in _STATES if output.get(name) is not None}
    if not found:
        raise SymmetryError(
            f"the model's answer is not known among {', '.join(output)}", hint="prove a model with logits or states"
        )
    return found
