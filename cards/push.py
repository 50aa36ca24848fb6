"""`push_to_hub`: publish a merge by what one holds in one's hands: its folder, its manifest, or the loaded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cards.card_file import write_card
from cards.content import recipe_text
from cards.errors import PublishError
from cards.publish import publish
from cards.publish_plan import PublishPlan
from cards.weight_names import RECIPE_NAME, holds_only_recipe
from hubmerge.manifest import MANIFEST_NAME, Manifest
from hubmerge.token import as_token

__all__ = ["push_to_hub"]


def push_to_hub(
    merge: str | Path | Manifest | Any,
    repo_id: str,
    *,
    private: bool = True,
    create_pr: bool = False,
    commit_message: str | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
) -> PublishPlan:
    """Publish a merge as `repo_id` on the Hub, with the arguments of transformers' `push_to_hub`; see `cards.publish`.

    merge: the folder of a merge; its manifest, which is published as a recipe without weights (all parents must be on the
    Hub); or a model that `AutoMergedModel` loaded: what is published is the merge it was loaded from, with its card and
    manifest, and not what transformers would save.  A model that was trained since is refused: its own `push_to_hub`, which is
    transformers', publishes it as the new model that it is.

    private: of a repository that is made; other than in transformers, True.  Raises the errors of `publish`.
    """
    from hubmerge.assemble import merge_plan
    from hubmerge.plan import build_plan
    from hubmerge.recipe import Recipe

    def put(folder: Path) -> PublishPlan:
        options = {"create_pr": create_pr, "message": commit_message, "token": token, "revision": revision}
        return publish(folder, repo_id, public=not private, **options)  # type: ignore[arg-type]  # each of its own type

    if isinstance(merge, str | Path):
        return put(Path(merge))
    with TemporaryDirectory(prefix="hubmerge-") as place, as_token(token):
        folder = Path(place) / repo_id.rpartition("/")[2]
        if isinstance(merge, Manifest):
            _write_recipe(merge, folder)
            return put(folder)
        source = getattr(merge, "hubmerge_source", None)
        if source is None:
            raise PublishError(
                f"a {type(merge).__name__} that was not loaded by AutoMergedModel is no merge that is known here",
                where=repo_id,
                hint="publish the folder of the merge, or use the model's own push_to_hub",
            )
        if not isinstance(source, Recipe):
            found = source.path(MANIFEST_NAME).parent
            for name in source.files():
                source.path(name)  # a model on the Hub was loaded without its card
            if not holds_only_recipe(source.files()):
                _refuse_changed(merge, found, repo_id)
            return put(found)
        merge_plan(build_plan(source), folder)
        _refuse_changed(merge, folder, repo_id)
        write_card(folder)
        return put(folder)


def _write_recipe(manifest: Manifest, folder: Path) -> None:
    """The folder of a merge without its weights: config and carried files from the parents, manifest, card."""
    from hubmerge.plan import build_plan, pins_of
    from hubmerge.plan_types import Plan
    from hubmerge.published import carried_files
    from hubmerge.recipe import Recipe

    plan = build_plan(Recipe.parse(manifest.recipe), pins=pins_of(manifest))
    if not isinstance(plan, Plan) or manifest.whole_only:
        raise PublishError(
            f"a merge by {manifest.method} is not published as a recipe alone: {manifest.whole_only}",
            where=folder.name,
            hint="publish the folder of the merge",
        )
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(plan.config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, path in carried_files(plan):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    (folder / RECIPE_NAME).write_text(recipe_text(manifest), encoding="utf-8")
    write_card(folder)


def _refuse_changed(model: Any, folder: Path, repo: str) -> None:
    """`PublishError` unless the model's weights are those in `folder`, as far as its own type can tell."""
    import torch
    from safetensors import safe_open

    held = model.state_dict()
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = next((held[n] for n in (name, prefix + name, name.removeprefix(prefix)) if n in held), None)
                if tensor is None:
                    what = f"tensor {name!r} has another name in the model, so that the two cannot be compared"
                    raise PublishError(what, where=repo, hint=f"publish {folder}, which the model was loaded from")
                if not torch.equal(file.get_tensor(name).to(tensor.dtype), tensor.detach().cpu()):
                    raise PublishError(
                        f"tensor {name!r} is not what was merged any more: the model was changed after loading",
                        where=repo,
                        hint="use the model's own push_to_hub, which publishes it as a new model",
                    )
