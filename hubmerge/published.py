"""What a folder or a repository of a published merge holds: a model, an adapter, or only the recipe of one.

A recipe is enough: its manifest pins the parents to commits and keeps the digest of every file that the merge had.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from hubmerge.compute import compute
from hubmerge.errors import PlanError, VerifyError
from hubmerge.fetching import fetch_parents
from hubmerge.io.input_files import InputFiles
from hubmerge.io.workspace import Workspace
from hubmerge.manifest import MANIFEST_NAME, Manifest, read_manifest
from hubmerge.plan import build_plan, pins_of
from hubmerge.plan_types import Plan
from hubmerge.prologue import known_of, pooled_states
from hubmerge.recipe import Recipe
from hubmerge.staged import Known
from zoo_index.hub import ModelSource, fetch, open_source
from zoo_index.reference import ModelRef

__all__ = [
    "carried_files",
    "check_weights",
    "fetch_files",
    "open_published",
    "published_kind",
    "published_plan",
    "refuse_undigested",
]

_WEIGHTS = (".safetensors", ".safetensors.index.json")


def open_published(source: str | Path, revision: str | None = None, token: str | None = None) -> ModelSource:
    """The files of a folder, or of a model on the Hub at a revision; see `zoo_index.hub.open_source`."""
    path = Path(source)
    name = str(path.absolute()) if path.is_dir() else str(source)
    return open_source(ModelRef.of(name, None if path.is_dir() else revision), token)


def published_kind(source: ModelSource) -> Literal["model", "adapter", "recipe"]:
    """What there is to load.  A model without weights of ours is left to transformers, which says what it lacks."""
    files = source.files()
    top = [name for name in files if "/" not in name]
    if "adapter_config.json" in files and "config.json" not in files:
        return "adapter"
    if MANIFEST_NAME in files and not any(name.endswith(_WEIGHTS) for name in top):
        return "recipe"
    return "model"


def fetch_files(source: ModelSource, *, code: bool = False) -> Path:
    """Bring what loading needs to this disk (nothing for a folder), and say in which folder it is.

    code: Python files too.  Raises `PlanError` when there is no config, or a repository has no safetensors.
    """
    files = source.files()
    config = next((name for name in ("config.json", "adapter_config.json") if name in files), None)
    if config is None:
        raise PlanError(
            "no readable config.json, so this is not a model folder",
            where=str(source.pinned),
            hint="name the OUT of a merge, or a recipe file",
        )
    if source.pinned.commit is not None and not any(name.endswith(_WEIGHTS) for name in files):
        raise PlanError("no safetensors weights", where=str(source.pinned), hint="choose a model that has them")
    wanted = [name for name in files if "/" not in name and _is_needed(name, code=code)]
    fetch([(source, name) for name in wanted])
    return source.path(config).parent


def _is_needed(name: str, *, code: bool) -> bool:
    return name.endswith((*_WEIGHTS, ".json", ".jinja")) or (code and name.endswith(".py"))


def published_plan(source: ModelSource) -> tuple[Plan, Manifest]:
    """The plan of a published merge, with its parents at the commits of its manifest, fetched to this disk.

    Raises the errors of `build_plan`, `HubError` and `ManifestError`; `PlanError` for a merge of folders.
    """
    manifest = read_manifest(source.path(MANIFEST_NAME).parent)
    recipe, pins = Recipe.parse(manifest.recipe), pins_of(manifest)
    if source.pinned.commit is not None:
        _refuse_unpinned(recipe, pins, str(source.pinned))
    plan = build_plan(recipe, pins=pins)
    if not isinstance(plan, Plan) or manifest.whole_only:
        raise PlanError(
            f"a merge by {manifest.method}{' after an alignment' if manifest.alignment else ''} is not loaded from its recipe alone",
            where=str(source.pinned),
            hint="ask for its weights, or run `hubmerge merge` with its recipe",
        )
    fetch_parents(plan)
    return plan, manifest


def _refuse_unpinned(recipe: Recipe, pins: Mapping[str, str], where: str) -> None:
    """`PlanError` for a stranger's recipe that reads folders of this machine, or models at no commit."""
    for reference in recipe.references:
        for model in filter(None, (reference.model, reference.adapter)):
            if model.is_local:
                what, hint = f"the recipe names a folder ({model})", "only its author can make this merge again"
            elif str(model) not in pins:
                what, hint = f"the manifest does not say at which commit {model} was taken", "ask its author"
            else:
                continue
            raise PlanError(what, where=where, hint=hint)


def carried_files(plan: Plan) -> Iterator[tuple[str, Path]]:
    """Every file that goes along unchanged from a parent: its name and where it is, fetched if need be."""
    with InputFiles(plan.parents) as files:
        for file in plan.carried:
            yield file.name, files.path(file.parent, file.name)


def check_weights(plan: Plan, manifest: Manifest, where: str) -> None:
    """`VerifyError` unless the parents give the weight files and the config that `manifest` records.

    The files' bytes are made once more and hashed, never written.  Methods that multiply matrices give other last digits on
    another machine: for those only the names and sizes are compared.
    """
    refuse_undigested(manifest, where)
    recorded = {name: file for name, file in manifest.files.items() if name.endswith(".safetensors")}
    sizes = {name: file.size for name, file in recorded.items()}
    if sizes != dict(plan.layout.sizes):
        raise _other(where, "the weight files have other names or sizes")
    if manifest.reproducible != "exact":
        return
    with InputFiles(plan.parents) as files:
        known = known_of(plan, pooled_states(plan, files, plan.jobs))
        for name, file in recorded.items():
            if _digest(plan, files, name, known) != file.sha256:
                raise _other(where, f"{name} has another sha256")
    text = json.dumps(plan.config, indent=2, ensure_ascii=False) + "\n"
    if "config.json" in manifest.files and _sha256(text) != manifest.files["config.json"].sha256:
        raise _other(where, "config.json has another sha256")


def refuse_undigested(manifest: Manifest, where: str) -> None:
    """`VerifyError` for the manifest of a merge without digests, with which nothing can be compared."""
    if manifest.undigested:
        raise VerifyError(
            f"its manifest records no sha256 of {manifest.undigested[0]}",
            where=where,
            hint="it was merged with --no-digest; `hubmerge publish` adds the digests",
        )


def _other(where: str, what: str) -> VerifyError:
    return VerifyError(
        f"merging again does not give what was published: {what}",
        where=where,
        hint="it was made by another version of hubmerge, or the repository was changed by hand",
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(plan: Plan, files: InputFiles, name: str, known: Known) -> str:
    digest = hashlib.sha256(plan.layout.headers[name])
    workspace = Workspace()

    def emit(_: int, entries: npt.NDArray[Any]) -> None:
        digest.update(entries.data.cast("B"))

    for step in sorted((step for step in plan.steps if step.output.file == name), key=lambda step: step.output.start):
        compute(step, plan.method, files, workspace, emit, known=known)
    return digest.hexdigest()
