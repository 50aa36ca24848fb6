"""What a card lacks: the card's own text and metadata against the merge it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cards.card_text import parse_card, read_card
from cards.errors import CardError
from cards.model_facts import is_adapter
from cards.public import find_leaks, public_names
from cards.weight_names import holds_only_recipe
from hubmerge.manifest import Manifest, read_manifest

__all__ = ["Finding", "check_card", "read_front_matter"]


@dataclass(frozen=True)
class Finding:
    """One thing to mend.  error: the card must not be published so; warning: it would be better with it."""

    level: Literal["error", "warning"]
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.message, self.hint) if part)


def check_card(out: str | Path) -> tuple[Finding, ...]:
    """What OUT/README.md lacks, errors first; empty when it is complete.  `ManifestError` when OUT is no merge."""
    out = Path(out)
    manifest = read_manifest(out)
    path = out / "README.md"
    if not path.exists():
        return (Finding("error", "there is no README.md", f"write it with `hubmerge card {out}`"),)
    try:
        text = read_card(path)
    except CardError as error:
        return (Finding("error", error.message, error.hint),)
    try:
        front = read_front_matter(text)
    except ValueError as error:
        return (Finding("error", str(error), "the card begins with a line of ---, YAML, and a line of ---"),)
    adapter, bare = is_adapter(out), holds_only_recipe(path.name for path in out.iterdir())
    metadata = tuple(_metadata_findings(front, adapter=adapter, bare=bare))
    if not any(finding.level == "error" for finding in metadata):  # those say it better
        metadata += tuple(_class_findings(text))
    findings = [
        *metadata,
        *_parent_findings(front, text, manifest, adapter=adapter),
        *_text_findings(text, out),
    ]
    return tuple(sorted(findings, key=lambda finding: finding.level))


def read_front_matter(text: str) -> dict[str, Any]:
    """The YAML block at the start of a card; `ValueError` in words when there is none or it is not a mapping."""
    lines = text.removeprefix("\ufeff").splitlines()
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if not lines or lines[0].rstrip() != "---" or end is None:
        raise ValueError("the card has no YAML metadata")
    try:
        front = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise ValueError(f"the card's metadata is not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(front, dict):
        raise ValueError("the card's metadata is not a mapping")  # noqa: TRY004 - one kind of fault for the caller
    return front


def _metadata_findings(front: Mapping[str, Any], *, adapter: bool, bare: bool) -> Iterator[Finding]:
    """bare: there are no weights, only a recipe, which hubmerge alone can load."""
    library, relation = ("peft", "adapter") if adapter else ("hubmerge" if bare else "transformers", "merge")
    if front.get("library_name") != library:
        yield Finding("error", f"library_name is not {library}", "the Hub then offers no code to load the model")
    if front.get("base_model_relation") != relation:
        yield Finding("error", f"base_model_relation is not {relation}", f"add base_model_relation: {relation}")
    tags = front.get("tags")
    if not isinstance(tags, list) or "merge" not in tags:
        yield Finding("error", "the tag merge is missing", "add it to tags")
    if not front.get("pipeline_tag"):
        yield Finding("warning", "no pipeline_tag", "the Hub cannot list the model under a task")
    if not front.get("license"):
        yield Finding("warning", "no license", "without one nobody may use the model; ask the parents' authors")
    if front.get("license") == "other" and not (front.get("license_name") and front.get("license_link")):
        yield Finding("error", "license: other needs license_name and license_link", "name the texts that apply")
    index = front.get("model-index")
    if index is None:
        yield Finding(
            "warning", "no evaluation", "run `hubmerge evaluate` and `hubmerge card OUT --results results.json`"
        )
    elif not _is_model_index(index):
        yield Finding(
            "error", "the model-index is malformed", "every result has task.type, dataset.type, dataset.name, metrics"
        )


def _class_findings(text: str) -> Iterator[Finding]:
    """What huggingface_hub, which writes the card again when it is published, does not read."""
    try:
        parse_card(text)
    except CardError as error:
        yield Finding("error", error.message, error.hint)


def _is_model_index(index: object) -> bool:
    try:
        return all(
            result["task"]["type"]
            and result["dataset"]["type"]
            and result["dataset"]["name"]
            and all(metric["type"] and "value" in metric for metric in result["metrics"])
            for model in index  # type: ignore[attr-defined]  # whatever it is, the except below says no
            for result in model["results"]
        )
    except (TypeError, KeyError):
        return False


def _parent_findings(front: Mapping[str, Any], text: str, manifest: Manifest, *, adapter: bool) -> Iterator[Finding]:
    declared = front.get("base_model") or []
    declared = declared if isinstance(declared, list) else [declared]
    names = public_names(manifest)
    for parent in manifest.parents:
        for reference, commit in ((parent.reference, parent.commit), (parent.adapter, parent.adapter_commit)):
            if reference is None:
                continue
            name = names[reference].removeprefix("./") if commit is None else reference.partition("@")[0]
            if commit is not None and not adapter and name not in declared:
                yield Finding("error", f"base_model does not list {name}", "add it to base_model")
            if name not in text.replace("\\", ""):
                yield Finding("error", f"the parent {name} is not named in the text", "every parent is to be named")


def _text_findings(text: str, out: Path) -> Iterator[Finding]:
    if "[More Information Needed]" in text:
        yield Finding("error", "[More Information Needed] is in the text", "write it or remove the line")
    for leak in find_leaks(text, private=(str(out.resolve()),)):
        yield Finding("error", f"the text holds a {leak}", "remove it")
