"""One merge in a process of its own, by the product's own functions: how long it takes, and the most memory the process had."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.text_tasks.ways import Way

__all__ = ["Cost", "main", "merged"]


@dataclass(frozen=True)
class Cost:
    """seconds: of the merge, from the recipe to the folder.  bytes: the most the whole process held, the parents' mapped files among it."""

    seconds: float
    bytes: int


def merged(
    way: Way, base: Path, experts: Sequence[Path], seed: int, out: Path, calibration: Path | None = None
) -> Cost:
    """Merge the experts into the folder `out`: a model, or an adapter on the base.

    calibration: a file of torch with a list of batches for every expert, which the merge is given.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    job = {**asdict(way), "base": str(base), "experts": list(map(str, experts)), "seed": seed, "out": str(out)}
    job["calibration"] = None if calibration is None else str(calibration)
    command = [sys.executable, "-m", "benchmarks.text_tasks.merging", json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
    if done.returncode:
        raise RuntimeError(f"{way.key}: {done.stderr[-2000:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main(arguments: Sequence[str]) -> None:
    """Do the merge that is described in JSON, on one thread, and print its cost as JSON."""
    job: dict[str, Any] = json.loads(arguments[0])
    seconds = _on_data(job) if job["calibration"] else _from_folders(job)
    print(json.dumps({"seconds": seconds, "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def _from_folders(job: Mapping[str, Any]) -> float:
    """The merge of folders; the seconds it took."""
    from hubmerge import merge, merge_adapters

    begun = time.perf_counter()
    if job["kind"] == "full":
        recipe = {
            "merge_method": job["method"],
            "models": [{"model": expert} for expert in job["experts"]],
            "parameters": job["parameters"],
            "seed": job["seed"],
        }
        if job["method"] not in {"linear", "karcher"}:
            recipe["base_model"] = job["base"]
        merge(recipe, job["out"], jobs=1)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's cross terms, which are measured here
            merge_adapters(
                job["method"],
                job["experts"],
                job["out"],
                basis=job["basis"],
                parameters=job["parameters"],
                rank=job["rank"],
                seed=job["seed"],
                jobs=1,
            )
    return time.perf_counter() - begun


def _on_data(job: Mapping[str, Any]) -> float:
    """The merge of models in memory that are run on data; the seconds it took, without opening and saving them."""
    import torch

    from benchmarks.text_tasks.models import opened
    from hubmerge import merge_state_dicts

    torch.set_num_threads(1)
    base, *experts = (opened(Path(folder)) for folder in (job["base"], *job["experts"]))
    batches = torch.load(job["calibration"])
    begun = time.perf_counter()
    found = merge_state_dicts(
        job["method"], experts, base, job["parameters"], calibration=batches, seed=job["seed"], jobs=1
    )
    seconds = time.perf_counter() - begun
    base.load_state_dict(dict(found))
    base.save_pretrained(job["out"])
    return seconds


if __name__ == "__main__":
    main(sys.argv[1:])
