"""`materialize`: a published recipe -> the dense checkpoint it stands for, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hubmerge.assemble import merge_plan
from hubmerge.errors import PlanError, VerifyError
from hubmerge.manifest import MANIFEST_NAME, Manifest
from hubmerge.published import open_published, published_plan, refuse_undigested
from hubmerge.token import as_token

__all__ = ["materialize"]


def materialize(
    source: str | Path,
    out: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Write the model that the merge in `source` stands for to the new folder `out`, and return its manifest.

    source: a folder or a repository on the Hub that holds a hubmerge.json.  Every file is compared with the digests recorded
    there (for methods that multiply matrices, whose last digits are the machine's, the weights only by size).  Raises the
    errors of `merge`, `HubError`, and `VerifyError` when a file comes out otherwise; then `out` is as it was before.
    """
    opened = open_published(source, revision, token)
    if MANIFEST_NAME not in opened.files():
        raise PlanError(
            f"there is no {MANIFEST_NAME}, so this is no merge", where=str(opened.pinned), hint="name a published merge"
        )
    with as_token(token):
        plan, manifest = published_plan(opened)
        refuse_undigested(manifest, str(opened.pinned))

        def accept(made: Manifest) -> None:
            wrong = _differences(manifest, made)
            if wrong:
                raise VerifyError(
                    f"merging again does not give what was published: {', '.join(wrong)}",
                    where=str(opened.pinned),
                    hint="it was made by another version of hubmerge, or the repository was changed by hand",
                )

        return merge_plan(plan, out, overwrite=overwrite, progress=progress, accept=accept).manifest


def _differences(wanted: Manifest, made: Manifest) -> list[str]:
    exact = wanted.reproducible == "exact"
    names = sorted(wanted.files.keys() | made.files.keys())
    return [name for name in names if not _same(wanted, made, name, exact=exact or not name.endswith(".safetensors"))]


def _same(wanted: Manifest, made: Manifest, name: str, *, exact: bool) -> bool:
    a, b = wanted.files.get(name), made.files.get(name)
    return a == b if exact or a is None or b is None else a.size == b.size
