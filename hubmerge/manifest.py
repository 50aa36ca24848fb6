"""`hubmerge.json`, the record inside every merge: what was merged, from what, how, and what came out.

It holds no time and no machine, so that the same merge writes the same manifest.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from hubmerge.adapter_record import AdapterRecord
from hubmerge.alignment_record import AlignmentRecord
from hubmerge.assembly_record import AssemblyRecord, CalibrationRecord
from hubmerge.disentangled_record import DisentangledRecord
from hubmerge.errors import ManifestError, shown
from hubmerge.layers_record import LayersRecord
from hubmerge.prepared_record import PreparedRecord

__all__ = [
    "ADAPTER_VERSION",
    "ALIGNMENT_VERSION",
    "ASSEMBLY_VERSION",
    "FORMAT_VERSION",
    "LAYERS_VERSION",
    "MANIFEST_NAME",
    "PREPARED_VERSION",
    "FileDigest",
    "Manifest",
    "ParentRecord",
    "read_manifest",
]

MANIFEST_NAME = "hubmerge.json"
FORMAT_VERSION: Literal[1] = 1
ASSEMBLY_VERSION: Literal[2] = 2
"""With an `AssemblyRecord`, which readers of version 1 do not know."""
ALIGNMENT_VERSION: Literal[3] = 3
"""With an `AlignmentRecord`, which readers of version 2 do not know."""
LAYERS_VERSION: Literal[4] = 4
"""With a `LayersRecord`, which readers of version 3 do not know."""
ADAPTER_VERSION: Literal[5] = 5
"""With an `AdapterRecord`, which readers of version 4 do not know."""
PREPARED_VERSION: Literal[6] = 6
"""With a `PreparedRecord` or a `DisentangledRecord`, which readers of version 5 do not know."""
_VERSIONS = (FORMAT_VERSION, ASSEMBLY_VERSION, ALIGNMENT_VERSION, LAYERS_VERSION, ADAPTER_VERSION, PREPARED_VERSION)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class FileDigest(_Record):
    """One file of the merge: size in bytes, sha256 as hex; None for weights that were merged with --no-digest."""

    size: int
    sha256: str | None = None


class ParentRecord(_Record):
    """One input model as it was when it was merged.

    reference: as the recipe names it, without adapter.  commit: the Hub commit, None for a folder.
    adapter: the adapter's reference, None without one.  headers: weight file -> sha256 of its safetensors header
    (of the adapter's weights too, under ``adapter/``).  sample: sha256 over sampled bytes of every tensor read, which
    tells a model trained again from the one merged; empty for a parent pinned to a commit.  parameters: what the recipe gave this parent.
    """

    reference: str
    role: Literal["base", "parent"]
    commit: str | None = None
    adapter: str | None = None
    adapter_commit: str | None = None
    headers: dict[str, str] = {}
    sample: str = ""
    parameters: dict[str, Any] = {}


class Manifest(_Record):
    """Everything needed to repeat, check and describe a merge.

    recipe: the recipe as parsed, in the words of the YAML.  method: its name; method_revision: raised when a
    method's numbers change.  reproducible: ``exact`` (the same bytes everywhere) or ``tolerance`` (matrix methods).
    tensors: how many were merged, copied, averaged (running statistics), counted (counters), estimated (anew).  vocabulary: what became of
    the rows of embeddings and heads, in sentences; empty where nothing moved.
    files: every file of the folder but this one and README.md.  assembly: of models that were unlike one another, which makes
    the format_version 2; alignment: of parents that were brought into one order first, which makes it 3; layers: of a base that took in
    single layers, which makes it 4; adapters: of LoRA adapters that were merged as adapters, which makes it 5; prepared: of coefficients
    that were found first, which makes it 6, as does disentangled: of deltas from which was subtracted what they shared; without any of them
    the text is that of version 1.
    """

    format_version: Literal[1, 2, 3, 4, 5, 6] = 1
    hubmerge_version: str
    plan_hash: str
    recipe: dict[str, Any]
    method: str
    method_revision: int
    paper: str = ""
    seed: int = 0
    reproducible: Literal["exact", "tolerance"] = "exact"
    parents: tuple[ParentRecord, ...]
    config_donor: str
    tokenizer_donor: str | None = None
    dtype: str
    parameters: int
    tensors: dict[str, int]
    vocabulary: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    files: dict[str, FileDigest]
    assembly: AssemblyRecord | None = None
    alignment: AlignmentRecord | None = None
    layers: LayersRecord | None = None
    adapters: AdapterRecord | None = None
    prepared: PreparedRecord | None = None
    disentangled: DisentangledRecord | None = None

    @property
    def undigested(self) -> tuple[str, ...]:
        """Files whose sha256 is not recorded."""
        return tuple(name for name, file in self.files.items() if file.sha256 is None)

    @property
    def whole_only(self) -> str:
        """Why it takes more than the parents' files to make the merge again; empty where it does not."""
        if self.assembly is not None:
            return "making it again takes its calibration data"
        if self.layers is not None:
            return f"making it again {'takes its data' if self.data else 'searches anew'}"
        if self.adapters is not None:
            return "making it again takes merging its adapters first"
        if self.prepared is not None:
            return "making it again finds its coefficients anew"
        return "making it again takes aligned copies of its parents" if self.alignment is not None else ""

    @property
    def data(self) -> tuple[CalibrationRecord, ...]:
        """What the models were run on, if anything."""
        own = [record.calibration for record in (self.assembly, self.alignment, self.layers) if record is not None]
        own += [self.layers.probe] if self.layers is not None else []
        own += self.prepared.calibration if self.prepared is not None else ()
        return tuple(record for record in own if record is not None)

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileDigest]) -> dict[str, FileDigest]:
        """A name that leaves the folder, or that no folder can hold, is a damaged or a hostile manifest's."""
        for name in files:
            parts = PurePosixPath(name).parts
            outside = not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name
            if outside or any(len(part.encode(errors="surrogatepass")) > 255 for part in parts):
                raise ValueError(f"{shown(name)} is no file of this folder")
        return files

    def to_json(self) -> str:
        """The text of hubmerge.json."""
        records = ("assembly", "alignment", "layers", "adapters", "prepared", "disentangled")
        left_out = {name for name in records if getattr(self, name) is None}
        return json.dumps(self.model_dump(mode="json", exclude=left_out), indent=2, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a merged model; `ManifestError` when there is none or it cannot be understood."""
    path = folder / MANIFEST_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not folder.exists():
            hint = f"looked from {Path.cwd()}; name the OUT of `hubmerge merge`"
            raise ManifestError(f"{folder} does not exist", where=str(folder), hint=hint) from None
        raise ManifestError(
            f"no {MANIFEST_NAME}, so this is not a hubmerge merge",
            where=str(folder),
            hint="name the OUT of `hubmerge merge`",
        ) from None
    except NotADirectoryError:
        raise ManifestError(
            "this is a file, not a merged folder", where=str(folder), hint="name the OUT of `hubmerge merge`"
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of 5,000 digits
        raise ManifestError(
            f"{MANIFEST_NAME} cannot be read ({error})", where=str(folder), hint="merge again"
        ) from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version not in _VERSIONS:  # a list, that a damaged file may have, fits into no set
        raise ManifestError(
            f"{MANIFEST_NAME} has format_version {version!r}, this hubmerge reads {min(_VERSIONS)} to {max(_VERSIONS)}",
            where=str(path),
            hint="use the hubmerge that wrote it, or a newer one",
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise ManifestError(f"{MANIFEST_NAME}: {what}", where=f"{path}: {place}", hint="merge again") from error
