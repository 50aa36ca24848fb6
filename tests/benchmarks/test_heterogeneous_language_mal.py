"""MAL on language models: what stands in for a donor, and the table of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from language_toys import llama

from benchmarks.heterogeneous.language_mal import DONORS, Row, main, mal_table, rows_of
from benchmarks.heterogeneous.language_parents import reordered
from benchmarks.heterogeneous.language_shares import STAND_INS, Shares


def test_a_donor_in_another_order_gives_the_base_back_and_what_stands_in_for_it_does_not() -> None:
    base = llama()
    shares = Shares.of(base, reordered(base, 0), [{"input_ids": torch.arange(48).reshape(4, 12)}])
    drifts = {}
    for stand_in in STAND_INS:
        theirs = shares.in_place_of_donor(stand_in, 0)
        assert {name.split(".")[1] for name in theirs} == {"layers"}
        model, drifts[stand_in.key] = shares.merged(theirs, 0.5)
        own = model.state_dict()
        if stand_in.key == "nothing":
            name = "model.layers.1.mlp.up_proj.weight"
            assert torch.equal(own[name], base.state_dict()[name] / 2)
        assert torch.equal(own["model.embed_tokens.weight"], base.state_dict()["model.embed_tokens.weight"])
    assert drifts["matched"] == pytest.approx((0, 0), abs=1e-5)
    assert all(drift > 0.01 for key in ("random", "noise", "nothing") for drift in drifts[key])
    donor = reordered(base, 0).state_dict()["model.layers.0.mlp.up_proj.weight"]
    noise = shares.in_place_of_donor(STAND_INS[2], 0)["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(noise.flatten().sort()[0], donor.flatten().sort()[0])
    assert not torch.equal(noise, donor)


def test_the_table_has_layers_and_drifts_and_what_is_lost_against_the_base() -> None:
    base = Row("base", "the base", {"code": 1.0, "prose": 2.0})
    merged = Row("m", "merged", {"code": 1.5, "prose": 2.0}, 7.4, (2, 3), (0.05, 0.1))
    report = mal_table({0: {"base": base, "m": merged}, 2: {"base": base}})
    assert report.columns == ("model", "layers", "drift", "code", "prose", "lost", "seconds")
    assert report.rows == [
        ("the base", "- -", "- -", "1.000 1.000", "2.000 2.000", "+0.000 +0.000", "-"),
        ("merged", "2/3 -", "0.075 (0.100) -", "1.500 -", "2.000 -", "+0.250 -", "7 -"),
    ]
    assert report.explanation.endswith("Numbers are those of seeds 0 and 2.")


def test_lines_are_read_back_from_what_the_table_leaves() -> None:
    base = Row("base", "the base", {"code": 1.0, "prose": 2.0})
    merged = Row("m", "merged", {"code": 1.5, "prose": 2.0}, 7.5, (2, 3), (0.05, 0.1), [{"layer": "a"}])
    none = Row("m", "merged", {"code": 1.0, "prose": 2.0}, 7.5, (0, 4))
    found = {0: {"base": base, "m": merged}, 2: {"base": base}, 3: {"base": base, "m": none}}
    report = mal_table(found)
    content = {"options": report.options, "rows": report.rows, "measurements": report.measurements}
    assert rows_of(json.loads(json.dumps(content))) == found


def test_what_the_json_has_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.heterogeneous import language_mal

    asked: list[tuple[int, str, str]] = []

    def measured(job: Any) -> tuple[Row, ...]:
        asked.append((job.seed, job.donor, job.part))
        return tuple(Row(key, key, {"code": 1.0, "prose": 1.0 + job.seed}) for key in job.keys)

    monkeypatch.setattr(language_mal, "_measured", measured)
    place = ["--results", str(tmp_path), "--cache", str(tmp_path)]
    main([*place, "--seeds", "0"])
    assert asked == [(0, donor, part) for part in ("assembled", "shares") for donor in DONORS]
    asked.clear()
    main([*place, "--seeds", "0", "1", "--keep"])
    assert {seed for seed, _, _ in asked} == {1}
    content = json.loads((tmp_path / "language_mal.json").read_text())
    assert [measured["bits"]["prose"] for measured in content["measurements"]] == [[1.0, 2.0]] * 22
    (note,) = content["kept"]
    assert list(note["lines"]) == ["0"]
    content["options"]["shares"] = [0.3]
    (tmp_path / "language_mal.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds lines of another training: measure all of it"):
        main([*place, "--keep"])
