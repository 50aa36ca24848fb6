"""`verify`: is a merged model what its manifest says, can it be derived again, and does it load and answer?"""

from __future__ import annotations

from pathlib import Path

from hubmerge.io.digests import file_sha256
from hubmerge.manifest import Manifest, read_manifest
from hubmerge.reloading import reloaded
from hubmerge.verification import Check, Verification
from hubmerge.verify_derivation import check_derivation

__all__ = ["verify_merge"]


def verify_merge(
    folder: str | Path, *, reload: bool = True, fetch: bool = False, jobs: int | None = None
) -> Verification:
    """Check a merged folder three ways: digests of its files, derivation from its parents, reload with finite outputs.

    reload: also load it with transformers (needs torch) and run it once.  fetch: download parents that are on the Hub and
    not on this disk; without it such a merge is checked by its recorded digests.  Raises `ManifestError` when `folder` is no
    merge; what does not hold is in the result, not an exception.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    files = _check_files(manifest, path)
    derivation, level = (
        check_derivation(manifest, path, jobs, fetch=fetch)
        if files.passed is not False
        else (Check("derivation", None, "not tried: the files are not those of the merge"), "recorded")
    )
    if level == "recorded" and manifest.undigested:
        level = "sizes"
    checks = [files, derivation]
    if reload:
        checks.append(
            Check("reload", *reloaded(path))
            if files.passed is not False
            else Check("reload", None, "not tried: the files are not those of the merge")
        )
    return Verification(str(folder), level, tuple(checks))


def _check_files(manifest: Manifest, folder: Path) -> Check:
    wrong = [] if any(name.endswith(".safetensors") for name in manifest.files) else ["the manifest records no weights"]
    for name, recorded in manifest.files.items():
        path = folder / name
        try:
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif path.stat().st_size != recorded.size or (recorded.sha256 and file_sha256(path) != recorded.sha256):
                wrong.append(f"{name} was changed")
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror})")
    known = set(manifest.files) | {"hubmerge.json", "README.md", ".gitattributes", "LICENSE", "NOTICE"}
    stray = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*.safetensors")
        if p.relative_to(folder).as_posix() not in known
    )
    wrong += [f"{name} does not belong to the merge" for name in stray]
    if wrong:
        return Check("files", False, "; ".join(wrong))
    unknown = manifest.undigested
    whole = f"{len(manifest.files) - len(unknown)} files have the size and sha256 of the manifest"
    if unknown:
        sizes = "1 has its size" if len(unknown) == 1 else f"{len(unknown)} have their sizes"
        what = f"{sizes}, and no sha256 there (--no-digest): {', '.join(unknown)}"
        return Check("files", None, f"{whole}; {what}")
    return Check("files", True, whole)
