"""Publishing and loading as a person types it: fresh processes that know the Hub only by their environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_merges import merge_on_hub

from hubmerge.version import __version__

BIN = Path(sys.executable).parent


@pytest.fixture
def shell(ada, tmp_path, hub_home):
    """Run a command as ada, in a folder of its own; answers exit code, stdout, stderr."""

    def run(*arguments, token=ada.token, **environment):
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=tmp_path,
            env={**ada.environment(hub_home / "process", token), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        for text in (done.stdout, done.stderr):
            assert ada.token not in text
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.real
def test_publish_load_with_plain_transformers_and_materialize(ada, tmp_path, shell):
    merge_on_hub(ada, tmp_path)
    code, out, err = shell(BIN / "hubmerge", "publish", "out", "ada/zoo", "--dry-run")
    assert (code, err) == (0, "dry run: nothing was written\n"), err
    assert out.startswith("zoo -> ada/zoo (new, private), 6 files, ")
    assert ("models", "ada/zoo") not in ada.state.repositories

    code, out, err = shell(BIN / "hubmerge", "publish", "out", "ada/zoo")
    commit = ada.repository("ada/zoo").head.id
    assert (code, err.splitlines()[-1]) == (0, f"published: {ada.url}/ada/zoo/commit/{commit}")
    assert shell(BIN / "hubmerge", "publish", "out", "ada/zoo")[2] == "already published\n"
    code, out, err = shell(
        BIN / "hubmerge", "publish", "out", "ada/bare", "--as", "recipe", "--public", "--format", "quiet"
    )
    assert (code, out) == (0, f"{ada.url}/ada/bare/commit/{ada.repository('ada/bare').head.id}\n")

    load = (
        "import torch, hubmerge\nfrom transformers import AutoModelForCausalLM\n"
        "plain = AutoModelForCausalLM.from_pretrained('ada/zoo').state_dict()\n"
        "for source in ('ada/zoo', 'ada/bare'):\n"
        "    ours = hubmerge.AutoMergedModel.from_pretrained(source).state_dict()\n"
        "    assert all(torch.equal(values, ours[name]) for name, values in plain.items())\n"
        "print(len(plain))"
    )
    code, out, err = shell(sys.executable, "-c", load)
    assert (code, out) == (0, "21\n"), err

    code, out, err = shell(BIN / "hubmerge", "materialize", "ada/bare", "dense", token=None)
    assert (code, out.startswith("dense: 4 files, ")) == (0, True), err
    assert (tmp_path / "dense/model.safetensors").read_bytes() == (tmp_path / "out/model.safetensors").read_bytes()
    assert ada.log.tokens_abroad() == ()
    assert not any(ada.token.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_refusal_of_the_hub_is_one_line_and_exit_1(ada, small_merge, shell):
    code, out, err = shell(BIN / "hubmerge", "publish", "out", "bob/zoo")
    assert (code, out) == (1, "")
    assert err == (
        'error: the Hub refuses (403: Forbidden: you don\'t have the rights to write under the namespace "bob") · bob/zoo · '
        "the token may lack the right to do this; log in with `hf auth login` or set HF_TOKEN\n"
    )


def test_hf_merge_is_a_command_of_the_hubs_own_client(tmp_path, shell):
    folder = tmp_path / ".local/share/hf/extensions/hf-merge"
    folder.mkdir(parents=True)
    manifest = {
        "owner": "someone",
        "repo": "hf-merge",
        "repo_id": "someone/hf-merge",
        "short_name": "merge",
        "executable_path": str(BIN / "hf-merge"),
        "type": "python",
        "installed_at": "2026-01-01T00:00:00+00:00",
        "description": "Merge models.",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    home = {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    code, out, err = shell(BIN / "hf", "merge", "--version", **home)
    assert (code, out) == (0, f"{__version__}\n"), err
    assert shell(BIN / "hf", "merge", "plan", "none.yaml", **home)[0] == 1
    assert "Merge models." in shell(BIN / "hf", "--help", **home)[1]
