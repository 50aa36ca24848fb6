"""Which part of a loaded classifier is its trunk and which its head, and one run of a trunk under several heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["head_modules", "logits_under", "plain_model"]


def plain_model(model: Any) -> Any:
    """The transformers model itself: of a PEFT model the one that its adapter was put into.

    Raises ValueError for an adapter that stands in front of the model instead, as prompts do.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise ValueError("its adapter is a prompt, which is no part of the model")
    return model.get_base_model()


def head_modules(model: Any) -> dict[str, Any]:
    """The modules of a classifier behind its trunk, by their names in it; the trunk is a transformers model itself.

    Raises ValueError when the class is not built so.
    """
    from transformers import PreTrainedModel

    children = dict(model.named_children())
    head = {name: child for name, child in children.items() if not isinstance(child, PreTrainedModel)}
    direct = next((name for name, _ in model.named_parameters(recurse=False)), None)
    if len(head) in {0, len(children)} or direct is not None:
        raise ValueError(f"{type(model).__name__} has no trunk and head that could be told apart")
    return head


def logits_under(model: Any, heads: Sequence[Mapping[str, Any] | None], inputs: Mapping[str, Any]) -> list[Any]:
    """The logits of a plain model for one batch under every head, None for its own; the trunk runs once.

    heads: modules as `head_modules` gives them, of a model of the same class.  What else the class does between trunk
    and logits (which token is read, what is averaged) is its own forward.
    """
    if tuple(heads) == (None,):
        return [model(**inputs).logits]
    with _trunk_once(model):
        found = []
        for head in heads:
            with _mounted(model, head or {}):
                found.append(model(**inputs).logits)
        return found


@contextmanager
def _trunk_once(model: Any) -> Iterator[None]:
    """Let every trunk of the model answer with what it answered first; all calls inside must be for the same inputs."""
    own = head_modules(model)
    trunks = [child for name, child in model.named_children() if name not in own]
    with ExitStack() as stack:
        for trunk in trunks:
            before = trunk.__dict__.get("forward")
            trunk.forward = _remembered(trunk.forward)
            stack.callback(_put_back, trunk, before)
        yield


def _remembered(forward: Callable[..., Any]) -> Callable[..., Any]:
    answers: list[Any] = []

    def answer(*args: Any, **kwargs: Any) -> Any:
        if not answers:
            answers.append(forward(*args, **kwargs))
        return answers[0]

    return answer


def _put_back(trunk: Any, before: Callable[..., Any] | None) -> None:
    if before is None:
        del trunk.forward
    else:
        trunk.forward = before


@contextmanager
def _mounted(model: Any, head: Mapping[str, Any]) -> Iterator[None]:
    before = {name: getattr(model, name) for name in head}
    for name, module in head.items():
        setattr(model, name, module)
    try:
        yield
    finally:
        for name, module in before.items():
            setattr(model, name, module)
