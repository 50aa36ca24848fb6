"""`publish`: a finished merge and its card, after every check, into a folder or a repository on the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from cards.content import Kind, gather
from cards.errors import PublishError
from cards.publish_folder import publish_folder
from cards.publish_hub import HubOptions, checked_token, publish_on_hub
from cards.publish_plan import PublishPlan
from hubmerge.token import as_token
from zoo_index.reference import is_local_name, local_path

__all__ = ["publish"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*\Z")


def publish(
    out: str | Path,
    target: str | Path,
    *,
    dry_run: bool = False,
    as_: Kind | None = None,
    overwrite: bool = False,
    public: bool = False,
    create_pr: bool = False,
    message: str | None = None,
    yes: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
) -> PublishPlan:
    """Publish the merge in `out`, its card and the public form of its manifest.

    target: a folder (``./name``, or a `Path`), or ``user/name`` on the Hub.  as_: ``dense``, ``adapter``, or ``recipe``
    (everything but the weights, for merges whose parents are all on the Hub); None is what `out` holds.  dry_run: only make
    the plan, with the checks that fail.  overwrite: replace what is at the target and is not the same merge.  The card is
    renamed to the target.

    A folder appears complete or not at all.  On the Hub it is one commit, on top of the one that was looked at, or none;
    the other options are for the Hub: public: let everyone see it (a repository that is made is private otherwise).
    create_pr: propose the change as a pull request.  message: of the commit.  yes: publish although a parent is gated or a
    licence wants a person's decision.  token: as in huggingface_hub, None is the one that is logged in.  revision: the
    branch, default main.

    Raises `ManifestError` when `out` is no merge, `HubError` for what the Hub refuses or does not do, and `PublishError`: with
    every failed check, for a target that is something else, for a full disk, for a commit that somebody else made meanwhile.
    """
    text = str(target)
    if isinstance(target, Path) or is_local_name(text):
        odd = [
            word for word, given in (("--public", public), ("--create-pr", create_pr), ("--message", message)) if given
        ]
        if odd:
            raise PublishError(f"{odd[0]} means nothing for a folder", where=text, hint="name user/name on the Hub")
        folder = local_path(str(target))
        name = folder.resolve().name
        content = gather(Path(out), as_, name=name, place=f"./{name}")
        return publish_folder(content, folder, overwrite=overwrite, dry_run=dry_run)
    if not _HUB_NAME.match(text):
        raise PublishError(f"{text!r} is neither ./folder nor user/name", hint=f"for a folder write ./{text}")
    token = checked_token(text, token)  # before anything is hashed
    with as_token(token):  # the parents' cards are read too
        content = gather(Path(out), as_, name=text.partition("/")[2], place=text)
    options = HubOptions(
        public=public, create_pr=create_pr, overwrite=overwrite, message=message, yes=yes, revision=revision or "main"
    )
    return publish_on_hub(content, text, options, token=token, dry_run=dry_run)
