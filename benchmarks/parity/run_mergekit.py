"""Runs merges with mergekit, in mergekit's own environment; `generate.py` calls it.

One process imports mergekit once and forks for every merge, so that none can change another's random numbers or caches.
Standard input: a JSON list of {config, out, cache}; standard output: a JSON list of error texts, null where a merge was done.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def run_job(job: dict) -> None:
    options = MergeOptions(
        lora_merge_cache=job["cache"], random_seed=1, clone_tensors=True, write_model_card=False, quiet=True
    )
    run_merge(MergeConfiguration.model_validate(job["config"]), job["out"], options)


def run_forked(job: dict) -> str | None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run_job(job)
            message = ""
        except BaseException as error:  # whatever it is, it is the outcome
            message = "".join(traceback.format_exception_only(error)).strip() or repr(error)
        os.write(writing, message.encode()[:4000])
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode() or None


def main() -> None:
    jobs = json.load(sys.stdin)
    report = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    outcomes = []
    for job in jobs:
        print(Path(job["out"]).name, file=sys.stderr, flush=True)
        outcomes.append(run_forked(job))
    os.write(report, json.dumps(outcomes).encode())


if __name__ == "__main__":
    main()
