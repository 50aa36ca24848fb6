"""`hubmerge plan` and `merge` on the command line: what is printed where, and the exit code."""

from __future__ import annotations

import errno
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bad.models import hubmerge, llama, state_of
from zoo import run_hubmerge

from hubmerge.io.writer import OutputFolder

RECIPE = "merge_method: linear\nmodels:\n- model: ./a\n- model: ./b\n"


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    llama(Path("a"), 1)
    llama(Path("b"), 2)
    Path("r.yaml").write_text(RECIPE)


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    both = capsys.readouterr()
    return both.out, both.err


def test_plan_prints_the_plan_its_json_or_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    before = state_of(Path())
    assert hubmerge("plan", "r.yaml") == 0
    table, err = printed(capsys)
    assert (table.splitlines()[0], err) == ("linear: Average the parents' entries, weighted.", "")
    assert hubmerge("plan", "r.yaml", "--json") == 0
    data = json.loads(printed(capsys)[0])
    assert hubmerge("plan", "r.yaml", "--format", "quiet") == 0
    assert printed(capsys)[0] == data["hash"] + "\n"
    assert table.splitlines()[-1] == f"plan         {data['hash'][:12]}"
    assert state_of(Path()) == before


def test_a_command_to_give_next_can_be_pasted_whatever_the_folder_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("merge", "r.yaml", "my merge") == 0
    assert printed(capsys)[1] == "next: hubmerge verify 'my merge'\n"


def test_merge_says_what_it_wrote_and_that_it_is_already_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("merge", "r.yaml", "out") == 0
    out, err = printed(capsys)
    assert out.startswith("out: 7 tensors (7 merged), ")
    assert err == "next: hubmerge verify out\n"
    assert hubmerge("merge", "r.yaml", "out") == 0
    assert printed(capsys)[0].startswith("already done: out holds this merge (plan ")
    assert hubmerge("merge", "r.yaml", "out", "--format", "quiet") == 0
    assert printed(capsys)[0] == "out\n"


def test_merge_says_when_the_last_digest_was_known_or_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("merge", "r.yaml", "out") == 0
    assert re.search(r" s; digests: \d+\.\d s after the last write\n$", printed(capsys)[0])
    assert hubmerge("merge", "r.yaml", "other", "--no-digest") == 0
    assert re.search(r" s; no digests\n$", printed(capsys)[0])


def test_a_merge_that_goes_on_says_how_much_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(OutputFolder, "write_file", full)
        assert hubmerge("merge", "r.yaml", "out") == 1
    assert printed(capsys)[1] == (
        "error: the disk is full · out · free some space and merge again; out.partial holds 100 % of the merge; "
        "the same command goes on from there\n"
    )
    assert hubmerge("merge", "r.yaml", "out") == 0
    out, err = printed(capsys)
    assert err == "out.partial holds 100 % of this merge: going on from there\nnext: hubmerge verify out\n"
    assert "; 100 % was found done; digests: " in out


def test_a_note_is_no_warning_and_is_let_pass_by_strict(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text(RECIPE + "parameters: {int8_mask: true, density: 0.5}\n")
    told = "parameters.int8_mask is ignored: masks are not stored, so that their type is without meaning"
    assert hubmerge("plan", "r.yaml", "--json") == 0
    plan = json.loads(printed(capsys)[0])
    assert plan["warnings"] == ["parameters.density is ignored: linear does not use it", told]
    assert plan["notes"] == [told]
    Path("r.yaml").write_text(RECIPE + "parameters: {int8_mask: true}\n")
    assert hubmerge("merge", "r.yaml", "out", "--strict") == 0
    assert printed(capsys)[1] == f"note: {told}\nnext: hubmerge verify out\n"


def test_warnings_go_to_the_person_and_not_into_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text(RECIPE + "parameters: {density: 0.5}\n")
    assert hubmerge("merge", "r.yaml", "out", "--json") == 0
    out, err = printed(capsys)
    assert err == "warning: parameters.density is ignored: linear does not use it\n"
    assert json.loads(out)["warnings"] == ["parameters.density is ignored: linear does not use it"]
    assert hubmerge("merge", "r.yaml", "other", "--strict") == 1
    assert printed(capsys) == (
        "",
        "error: parameters.density is ignored: linear does not use it · --strict · mend it, or leave out --strict\n",
    )
    assert not Path("other").exists()


def test_a_recipe_comes_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(RECIPE))
    assert hubmerge("plan", "-", "--format", "quiet") == 0
    piped = printed(capsys)[0]
    hubmerge("plan", "r.yaml", "--format", "quiet")
    assert printed(capsys)[0] == piped
    monkeypatch.setattr(sys, "stdin", io.StringIO("merge_method: linar\nmodels: [{model: ./a}]"))
    assert hubmerge("plan", "-") == 1
    assert printed(capsys)[1] == (
        "error: unknown merge_method 'linar' · standard input: merge_method · did you mean linear or dare_linear?\n"
    )


def test_every_fault_is_one_line_and_the_folder_stays_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text("merge_metod: linear\nmodels:\n- model: ./a\n  parameters: {wieght: 1}\n- modle: ./b\n")
    before = state_of(Path())
    assert hubmerge("merge", "r.yaml", "out") == 1
    out, err = printed(capsys)
    assert (out, err.splitlines()) == ("", [
        "error: unknown key 'modle' · r.yaml: models[1].modle · did you mean model?",
        "error: unknown key 'merge_metod' · r.yaml: merge_metod · did you mean merge_method?",
        "error: unknown parameter 'wieght' · r.yaml: models[0].parameters.wieght · did you mean weight?",
    ])  # fmt: skip
    assert state_of(Path()) == before


@pytest.mark.parametrize("size", ["0", "-1", "much", "2XB", "1.5"])
def test_a_memory_that_is_no_size_is_wrong_usage(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("plan", "r.yaml", "--memory", size) == 2
    assert "expected a " in printed(capsys)[1]


def test_jobs_and_arguments_that_are_missing_are_wrong_usage() -> None:
    assert hubmerge("plan", "r.yaml", "--jobs", "0") == 2
    assert hubmerge("plan") == 2
    assert hubmerge("merge", "r.yaml") == 2
    assert hubmerge("plan", "r.yaml", "--format", "xml") == 2


def test_in_a_process_of_its_own_a_fault_is_exit_1_without_traceback(tmp_path: Path) -> None:
    Path("b/model.safetensors").write_bytes(b"not a model")
    run = run_hubmerge("merge", "r.yaml", "out", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == (
        "error: header says it is 8029109312199880558 bytes long in a file of 11 bytes · ./b/model.safetensors · "
        "the file is damaged or not safetensors; fetch or save it again\n"
    )
    told = run_hubmerge("merge", "r.yaml", "out", "--traceback", cwd=tmp_path)
    assert told.returncode == 1
    assert "Traceback" in told.stderr


def test_without_standard_streams_no_file_of_a_merge_takes_their_place(tmp_path: Path) -> None:
    assert run_hubmerge("merge", "r.yaml", "clean", cwd=tmp_path).returncode == 0
    closed = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, [sys.executable, '-m', 'hubmerge', *sys.argv[1:]])"
    ended = subprocess.run([sys.executable, "-c", closed, "merge", "r.yaml", "out"], cwd=tmp_path, check=False)
    assert ended.returncode == 0
    assert state_of(tmp_path / "out") == state_of(tmp_path / "clean")


def test_a_terminal_of_ascii_gets_every_word(tmp_path: Path) -> None:
    Path("b/model.safetensors").write_bytes(b"")
    run = run_hubmerge("plan", "r.yaml", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert run.returncode == 1
    assert "file has 0 bytes, too short for a safetensors header \\xb7 ./b/model.safetensors" in run.stderr


def test_names_from_strangers_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a", "evil\x1b[2J.txt").write_text("")
    assert hubmerge("plan", "r.yaml") == 0
    out, _ = printed(capsys)
    assert "left behind  evil\ufffd[2J.txt\n" in out
