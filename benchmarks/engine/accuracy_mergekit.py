"""mergekit on single tensors; run by the python of an environment that has it: JOBS TENSORS RESULTS.

JOBS is JSON: a list of {"name", "method", "inputs" (names in TENSORS), "base_index" or null, "parameters", "dtype"}.  RESULTS
gets the merged tensor of each as float32, or nothing where mergekit failed, with the error on the standard error.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from mergekit.merge_methods.api import merge_tensors  # type: ignore[import-not-found]
from safetensors.torch import load_file, save_file


def main(jobs: str, tensors: str, results: str) -> None:
    """Carry out the jobs."""
    loaded = load_file(tensors)
    merged: dict[str, Any] = {}
    torch.set_num_threads(1)
    for job in json.loads(Path(jobs).read_text(encoding="utf-8")):
        torch.manual_seed(0)
        try:
            answer = merge_tensors(
                [loaded[name] for name in job["inputs"]],
                job["method"],
                parameters=job["parameters"],
                base_index=job["base_index"],
                dtype=getattr(torch, job["dtype"]),
                out_dtype=getattr(torch, job["dtype"]),
            )
        except Exception as error:  # whatever goes wrong there is an outcome here
            print(f"{job['name']}: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            merged[job["name"]] = answer.to(torch.float32).contiguous()
    save_file(merged, results)


if __name__ == "__main__":
    main(*sys.argv[1:])
