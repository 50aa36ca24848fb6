"""What adapters belong to: the model that they say they were trained on, and what a recipe says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hubmerge.errors import PlanError
from hubmerge.lora.headers import AdapterHeader
from zoo_index.reference import ModelRef, is_local_name, local_path

__all__ = ["Base", "base_of"]


@dataclass(frozen=True)
class Base:
    """name, revision: as the merged adapter's config has them.  reference: where it is read, None where nobody says.  warning: what was
    taken for granted.
    """

    name: str | None
    revision: str | None
    reference: ModelRef | None
    warning: str | None = None


def base_of(asked: ModelRef | None, adapters: Sequence[AdapterHeader]) -> Base:
    """The base of adapters that agree on theirs.  asked: the recipe's `base_model`.

    A name of the Hub that the recipe gives goes into the config in the place of a folder.  Raises `PlanError` where recipe and adapters name
    different models or revisions, as far as names tell: a folder that is not here, and a folder and a name of the Hub, may be one model.
    """
    configs = [adapter.config for adapter in adapters]
    stated = next((str(c["base_model_name_or_path"]) for c in configs if c.get("base_model_name_or_path")), None)
    revision = next((str(config["revision"]) for config in configs if config.get("revision")), None)
    if asked is None:
        return Base(stated, revision, None if stated is None else _reference(stated, revision))
    if stated is None:
        return Base(asked.name, asked.revision, asked)
    there = is_local_name(stated) or local_path(stated).is_dir()
    if not there and not asked.is_local:
        if stated.casefold() != asked.name.casefold():
            raise _other(f"base_model is {asked.name}", stated)
        if revision and asked.revision and revision != asked.revision:
            raise _other(f"base_model is at revision {asked.revision}", f"{stated} at {revision}")
        return Base(stated, revision or asked.revision, asked if asked.revision else _reference(stated, revision))
    if there and local_path(stated).resolve() == local_path(asked.name).resolve():
        return Base(stated, None, asked)
    if there and asked.is_local and local_path(stated).exists():
        raise _other(f"base_model is {asked.name}", stated)
    said = (
        f"a folder {local_path(stated).name}" if there else stated
    )  # where it is on somebody's disk is nobody's business
    warning = f"the adapters say that they were trained on {said}; base_model {asked} is taken for the same model"
    if asked.is_local and not there:
        return Base(stated, revision, asked, warning)
    return Base(asked.name, asked.revision, asked, warning)


def _reference(stated: str, revision: str | None) -> ModelRef:
    if is_local_name(stated) or local_path(stated).is_dir():
        return ModelRef(stated if is_local_name(stated) else f"./{stated}")
    return ModelRef.of(stated, revision)


def _other(said: str, stated: str) -> PlanError:
    return PlanError(
        f"{said}, and the adapters were trained on {stated}",
        where="base_model",
        hint="leave base_model out, or name what they were trained on",
    )
