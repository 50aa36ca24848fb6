"""Brings what a plan reads from the Hub to this disk, and makes sure that it is what was planned."""

from __future__ import annotations

import shutil
from pathlib import Path

from hubmerge.adapter_kinds import FOUND_AGAIN, moved_by
from hubmerge.errors import MergeError, PlanError
from hubmerge.gguf import reopen_model
from hubmerge.io.partial import partial_of
from hubmerge.plan_types import PlannedParent
from hubmerge.planned import Planned
from hubmerge.sizes import size_text
from zoo_index.checkpoint import read_json
from zoo_index.errors import CheckpointError
from zoo_index.header import header_length, parse_header
from zoo_index.hub import ModelSource, fetch, hub_cache_folder

__all__ = ["check_disks", "fetch_parents", "open_planned"]


def open_planned(parent: PlannedParent, in_adapter: bool = False) -> ModelSource:
    """The files of a planned parent, or of its adapter, at the commit of the plan."""
    reference = parent.reference.adapter if in_adapter else parent.reference.model
    commit = parent.adapter_commit if in_adapter else parent.commit
    if reference is None:
        raise MergeError(f"{parent.reference} has no adapter")
    source = reopen_model(reference, commit)
    if not in_adapter or moved_by(read_json(source, "adapter_config.json") or {}) not in FOUND_AGAIN:
        return source
    from hubmerge.lora.plain import plain_source

    return plain_source(source, (parent.reference.model, reopen_model(parent.reference.model, parent.commit)))


def check_disks(plan: Planned, out: Path, beside: int = 0) -> None:
    """`PlanError` when the disk of `out` or that of the Hub cache has no room for what will be written there.

    beside: bytes that are needed in OUT.partial until the merge is done.  What an interrupted merge of `out` takes up counts as
    room: it is gone on with, or discarded.
    """
    wanted: dict[int, int] = {}
    places: dict[int, Path] = {}
    for folder, size in (
        (out, plan.bytes_written + beside - _taken(partial_of(out))),
        (hub_cache_folder(), plan.bytes_to_download),
    ):
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        disk = place.stat().st_dev
        places.setdefault(disk, place)
        wanted[disk] = wanted.get(disk, 0) + size
    for disk, size in wanted.items():
        free = shutil.disk_usage(places[disk]).free
        if free < size:
            raise PlanError(
                f"the merge needs {size_text(size)}, {size_text(free)} are free",
                where=str(places[disk]),
                hint="free some space, or choose an OUT (or HF_HOME) on another disk",
            )


def _taken(folder: Path) -> int:
    """Bytes of the disk that the files of `folder` take up; files that are not all there take less than their size."""
    if not folder.is_dir() or folder.is_symlink():
        return 0
    try:
        return sum(getattr(state, "st_blocks", 0) * 512 for state in (path.lstat() for path in folder.rglob("*")))
    except OSError:  # whoever takes it over says what is wrong with it
        return 0


def fetch_parents(plan: Planned) -> None:
    """Download what `plan.downloads` lists into the Hub cache, several files at a time, going on where it stopped before.

    Raises `HubError`, and `MergeError` when a weight file is not the one whose header was planned with.
    """
    sources = {(file.parent, file.in_adapter): None for file in plan.downloads}
    opened = {key: open_planned(plan.parents[key[0]], key[1]) for key in sources}
    fetch([(opened[file.parent, file.in_adapter], file.name) for file in plan.downloads])
    for file in plan.downloads:
        headers = plan.parents[file.parent].headers
        planned = headers.get(f"adapter/{file.name}" if file.in_adapter else file.name)
        if planned is not None:
            _check_header(
                opened[file.parent, file.in_adapter].path(file.name), planned, str(plan.parents[file.parent].reference)
            )


def _check_header(path: Path, planned: str, where: str) -> None:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = header_length(file.read(8), file=str(path), file_size=size)
            header = parse_header(file.read(length), file=str(path), file_size=size)
    except CheckpointError as error:
        raise MergeError(
            f"{path.name} came damaged from the Hub: {error.message}",
            where=where,
            hint=f"delete {path.resolve()} and merge again",
        ) from error
    if header.sha256 != planned:
        raise MergeError(
            f"{path.name} is not the file that was planned with",
            where=where,
            hint=f"delete {path.resolve()} and merge again",
        )
