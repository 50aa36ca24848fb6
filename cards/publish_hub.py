"""Publishing on the Hub: what would change there, every check before the first write, then one commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cards.content import Content
from cards.errors import PublishError
from cards.hub_checks import card_checks, parent_checks
from cards.hub_commit import Change, commit_change, new_repository
from cards.hub_repository import RepositoryState, find_proposal, look_up
from cards.public import find_leaks
from cards.publish_checks import content_checks, refuse_failed
from cards.publish_plan import Check, PublishFile, PublishPlan, State
from cards.weight_names import RECIPE_NAME, competes
from hubmerge.manifest import MANIFEST_NAME, Manifest, read_manifest
from zoo_index.errors import HubmergeError
from zoo_index.hub_calls import call

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["HubOptions", "checked_token", "publish_on_hub"]


@dataclass(frozen=True)
class HubOptions:
    """What a person may ask of a publish on the Hub; see `cards.publish`."""

    public: bool = False
    create_pr: bool = False
    overwrite: bool = False
    message: str | None = None
    yes: bool = False
    revision: str = "main"


def checked_token(repo: str, token: str | bool | None) -> str:
    """`token`, or the one that is logged in; `PublishError` without one, or when the network is forbidden."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise PublishError("HF_HUB_OFFLINE is set", where=repo, hint="unset it, or publish into ./folder")
    token = token if isinstance(token, str) else get_token()
    if token is None:
        hint = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
        raise PublishError("publishing on the Hub needs an access token", where=repo, hint=hint)
    return token


def publish_on_hub(
    content: Content, repo: str, options: HubOptions, *, token: str, dry_run: bool = False
) -> PublishPlan:
    """Publish `content` as the repository `repo`, by one commit or not at all; see `cards.publish`.

    The plan that comes back has the commit, unless nothing had to be done or it was a dry run.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    there = look_up(api, repo, options.revision)
    plan = _plan(api, content, repo, options, there, secrets=(token,))
    if plan.state not in {"already published", "refused"} and not plan.failed and (dry_run or there is None):
        # create_commit asks this too, but only after the repository has been made
        plan = plan.model_copy(update={"checks": (*plan.checks, *card_checks(content.texts.get("README.md", "")))})
    if dry_run:
        return plan
    refuse_failed(plan)
    if plan.state == "already published":
        return plan
    with ExitStack() as stack:
        parent = there or stack.enter_context(new_repository(api, repo, private=not options.public))
        change = Change(
            repo=repo,
            branch=options.revision,
            parent=parent.commit,
            files=plan.files,
            gone=plan.deleted,
            data=content.data,
            title=plan.message or "",
            create_pr=options.create_pr,
        )
        done = commit_change(api, change)
    return plan.model_copy(update={"commit": done.commit, "url": done.url})


def _plan(
    api: HfApi,
    content: Content,
    repo: str,
    options: HubOptions,
    there: RepositoryState | None,
    *,
    secrets: tuple[str, ...],
) -> PublishPlan:
    files = tuple(_with_change(file, there) for file in content.files)
    earlier = _earlier(api, repo, there, files, content.manifest)
    deleted = _stale(content, there, earlier)
    message = options.message or f"Publish a merge by {content.manifest.method} ({content.kind})"
    state, refusals = _state(api, repo, there, earlier, files, deleted, options, message)
    name = repo.partition("/")[2]
    checks = [
        *content_checks(content, name=name, target=repo, place=f"{repo.partition('/')[0]}/{{name}}", secrets=secrets),
        *refusals,
    ]
    visibility = _visibility_checks(repo, there, options)
    if state == "already published":
        checks += [check for check in visibility if check.status == "warn"]
    else:
        checks += visibility
        checks += _consent_checks(content, options)
        checks += parent_checks(api, content, public=options.public, yes=options.yes)
    if find_leaks(message) or any(secret in message for secret in secrets):
        what = "the commit's message holds a local path or a token"
        checks.append(Check(name="private", status="fail", message=what, where=repo, hint="write another message"))
    visible: Literal["private", "public"] = "private" if (there.private if there else not options.public) else "public"
    mine = {file.name for file in files} | set(deleted)
    return PublishPlan(
        name=name,
        target=repo,
        kind=content.kind,
        state=state,
        files=files,
        deleted=deleted,
        kept=tuple(sorted(each for each in (there.files if there else ()) if each not in mine)),
        card=dict(content.card),
        licence=content.verdict.licence,
        visibility=visible,
        message=message,
        checks=tuple(checks),
    )


def _with_change(file: PublishFile, there: RepositoryState | None) -> PublishFile:
    if there is None or file.name not in there.files:
        return file
    lfs = there.files[file.name].sha256 is not None
    return file.model_copy(update={"lfs": lfs, "change": "unchanged" if there.holds(file) else "changed"})


def _earlier(
    api: HfApi, repo: str, there: RepositoryState | None, files: tuple[PublishFile, ...], manifest: Manifest
) -> Manifest | None:
    """The manifest that the repository holds; None when it holds none that can be read."""
    if there is None or MANIFEST_NAME not in there.files:
        return None
    if any(file.name == MANIFEST_NAME and file.change == "unchanged" for file in files):
        return manifest
    path = call(repo, lambda: api.hf_hub_download(repo, MANIFEST_NAME, revision=there.commit))
    try:
        return read_manifest(Path(path).parent)
    except HubmergeError:
        return None


def _stale(content: Content, there: RepositoryState | None, earlier: Manifest | None) -> tuple[str, ...]:
    """Files of the repository that an earlier publish made and this one does not, or that compete with its weights."""
    if there is None:
        return ()
    ours = {*earlier.files, RECIPE_NAME} if earlier else set()
    own = {file.name for file in content.files}
    adapter = content.kind == "adapter"
    return tuple(
        sorted(name for name in there.files if name not in own and (name in ours or competes(name, adapter=adapter)))
    )


def _state(
    api: HfApi,
    repo: str,
    there: RepositoryState | None,
    earlier: Manifest | None,
    files: tuple[PublishFile, ...],
    deleted: tuple[str, ...],
    options: HubOptions,
    message: str,
) -> tuple[State, tuple[Check, ...]]:
    """How the publish stands to what is there, and the check that fails when that has to stay."""

    def refused(what: str, hint: str) -> tuple[State, tuple[Check, ...]]:
        return "refused", (Check(name="target", status="fail", message=what, where=repo, hint=hint),)

    if there is None:
        if options.create_pr:
            return refused("there is no such repository, or it is hidden", "publish without --create-pr to make it")
        if options.revision != "main":
            return refused("there is no such repository, or it is hidden", "publish to main first, which makes it")
        return "new", ()
    if there.name.lower() != repo.lower():
        return refused(f"the repository is called {there.name} now", f"publish to {there.name}")
    if not there.differences(files, deleted):
        return "already published", ()
    if options.create_pr:
        proposal = find_proposal(api, repo, message, files, deleted)
        return ("already published", (_open_proposal(api, repo, proposal[0]),)) if proposal else ("proposes", ())
    if earlier is None and not there.is_empty and not options.overwrite:
        return refused(
            "the repository holds something else, and no merge",
            "propose it with --create-pr, replace what competes with it by --overwrite, or choose another name",
        )
    return "updates", ()


def _open_proposal(api: HfApi, repo: str, number: int) -> Check:
    what = f"it is proposed already, at {api.endpoint}/{repo}/discussions/{number}"
    return Check(name="target", status="ok", message=what)


def _visibility_checks(repo: str, there: RepositoryState | None, options: HubOptions) -> Iterator[Check]:
    if there is None:
        return
    if not there.private and not options.public:
        what = "the repository is public, and publishing is private unless asked otherwise"
        hint = "publish with --public, or make the repository private in its settings"
        yield Check(name="visibility", status="fail", message=what, where=repo, hint=hint)
    elif there.private and options.public:
        what = "the repository is private and stays so: its visibility is changed in its settings only"
        yield Check(name="visibility", status="warn", message=what, where=repo)


def _consent_checks(content: Content, options: HubOptions) -> Iterator[Check]:
    if content.verdict.allowed == "ask" and options.public and not options.yes:
        what = "the licences of the parents want a person's decision before everyone can see the merge"
        yield Check(
            name="licence",
            status="fail",
            message=what,
            hint="read the licence part of the card, then publish with --yes",
        )
