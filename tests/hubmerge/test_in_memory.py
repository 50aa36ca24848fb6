"""`merge_state_dicts`: the same numbers as a merge on disk, from tensors of torch or numpy, and its own refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zoo import Tensors, random_values, run_python

from hubmerge import MergeError, merge_state_dicts
from zoo_index import HubmergeError

pytestmark = pytest.mark.filterwarnings("error")


def faults_of(*arguments: Any, **rest: Any) -> list[str]:
    with pytest.raises(HubmergeError) as caught:
        merge_state_dicts(*arguments, **rest)
    return [str(fault) for fault in caught.value.faults]


def model(seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {"w": (4, 3), "b": (4,), "scale": (), "none": (0, 2)}
    floats = {name: random_values(shape, 10 * seed + i).astype(dtype) for i, (name, shape) in enumerate(shapes.items())}
    return {**floats, "steps": np.array([seed, 7])}


def in_torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}


def w(*values: float) -> dict[str, np.ndarray]:
    return {"w": np.array(values, np.float32)}


def test_a_number_is_for_all_parents_and_a_list_has_one_for_each_in_their_order() -> None:
    parents = [w(1, 2), w(5, -2)]
    assert merge_state_dicts("linear", parents)["w"].tolist() == [3, 0]
    assert merge_state_dicts("linear", parents, parameters={"weight": [3, 1]})["w"].tolist() == [2, 1]
    deltas = merge_state_dicts("task_arithmetic", parents, base=w(1, 1), parameters={"weight": [1, 0.5], "lambda": 2})
    assert deltas["w"].tolist() == [1 + 2 * (0 + 0.5 * 4), 1 + 2 * (1 + 0.5 * -3)]


@pytest.mark.parametrize("numbers", [np.array, torch.tensor, tuple])
def test_parameters_may_be_arrays_with_a_number_for_each_parent(numbers: Any) -> None:
    parameters = {"weight": numbers([3.0, 1.0])}
    assert merge_state_dicts("linear", [w(1, 2), w(5, -2)], parameters=parameters)["w"].tolist() == [2, 1]
    assert list(parameters) == ["weight"]


def test_a_parameter_may_be_a_scalar_of_torch() -> None:
    merged = merge_state_dicts("passthrough", [w(1, 2)], parameters={"scale": torch.tensor(3.0)})
    assert merged["w"].tolist() == [3, 6]


def test_a_list_of_mappings_chooses_by_tensor_name_as_in_a_recipe() -> None:
    parent = {"mlp.w": np.array([1.0], np.float32), "attn.w": np.array([1.0], np.float32)}
    scales = [{"filter": "mlp", "value": 3}, {"value": 2}]
    merged = merge_state_dicts("passthrough", [parent], parameters={"scale": scales})
    assert {name: values.tolist() for name, values in merged.items()} == {"mlp.w": [3], "attn.w": [2]}


@pytest.mark.parametrize("given", ["both", "an equal copy", "the other"])
def test_slerp_starts_from_the_base_which_is_one_of_its_two_parents(given: str) -> None:
    start, end = w(1, 0), w(0, 1)
    parents = {"both": [end, start], "an equal copy": [end, w(1, 0)], "the other": [end]}[given]
    merged = merge_state_dicts("slerp", parents, base=start, parameters={"t": 1 / 3})["w"]
    np.testing.assert_allclose(merged, [np.cos(np.pi / 6), np.sin(np.pi / 6)], rtol=1e-6)


def test_slerp_of_a_model_and_its_equal_is_that_model() -> None:
    start = w(1, 2)
    for other in (start, w(1, 2)):
        merged = merge_state_dicts("slerp", [other], base=start, parameters={"t": 0.3})
        assert merged["w"].tolist() == [1, 2]


def test_tensors_of_torch_give_tensors_of_torch_in_their_dtype_and_numpy_gives_numpy() -> None:
    parents = [model(1), model(1)]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        rows = [{k: v.to(dtype) if v.is_floating_point() else v for k, v in in_torch(p).items()} for p in parents]
        merged = merge_state_dicts("linear", rows)
        assert list(merged) == list(parents[0])
        assert {v.dtype for v in merged.values()} == {dtype, torch.int64}
        assert all(torch.equal(merged[name], rows[0][name]) for name in merged)
    arrays = merge_state_dicts("linear", parents)
    assert all(type(values) is np.ndarray and np.array_equal(values, parents[0][k]) for k, values in arrays.items())


@pytest.mark.parametrize("asked", ["bfloat16", torch.bfloat16])
def test_dtype_is_the_type_of_the_result(asked: Any) -> None:
    merged = merge_state_dicts("linear", [in_torch(w(1, 2)), in_torch(w(2, 4))], dtype=asked)["w"]
    assert merged.dtype == torch.bfloat16
    assert merged.tolist() == [1.5, 3]
    for half in (np.float16, np.dtype("float16"), "float16"):
        assert merge_state_dicts("linear", [w(1), w(2)], dtype=half)["w"].dtype == np.float16


def test_strided_reversed_and_foreign_byte_orders_are_read_as_the_numbers_they_show() -> None:
    plain = random_values((6, 4), 3)
    for odd in (np.asfortranarray(plain), np.flip(np.flip(plain).copy()), plain.astype(">f4")):
        assert np.array_equal(merge_state_dicts("linear", [{"w": odd}, {"w": plain}])["w"], plain)
    turned = torch.from_numpy(plain.T.copy()).T
    assert not turned.is_contiguous()
    merged = merge_state_dicts("linear", [{"w": turned}, {"w": torch.from_numpy(plain)}])["w"]
    assert np.array_equal(merged.numpy(), plain)


def test_the_inputs_are_never_changed_and_the_result_shares_no_memory_with_them() -> None:
    parents = [in_torch(model(1)), in_torch(model(1))]
    parents[0]["w"].requires_grad_()
    before = [{name: values.detach().clone() for name, values in parent.items()} for parent in parents]
    merged = merge_state_dicts("passthrough", parents[:1])
    for values in merged.values():
        values.add_(1)
    for parent, kept in zip(parents, before, strict=True):
        assert all(torch.equal(parent[name], kept[name]) for name in kept)
    assert not merged["w"].requires_grad


def test_names_that_are_one_memory_in_every_model_stay_one_tensor() -> None:
    def tied(seed: int) -> dict[str, torch.Tensor]:
        table = torch.from_numpy(random_values((5, 2), seed))
        return {"embed.weight": table, "norm.weight": torch.ones(2), "head.weight": table}

    merged = merge_state_dicts("linear", [tied(1), tied(2)])
    assert merged["head.weight"] is merged["embed.weight"]
    untied = {name: values.clone() for name, values in tied(2).items()}
    merged = merge_state_dicts("linear", [tied(1), untied])
    assert merged["head.weight"] is not merged["embed.weight"]
    assert torch.equal(merged["head.weight"], merged["embed.weight"])


def test_running_statistics_are_averaged_counters_take_the_largest_and_equal_buffers_are_copied() -> None:
    def net(factor: int) -> dict[str, np.ndarray]:
        floats = {"bn.running_var": factor * np.ones(2, np.float32), "w": factor * np.ones(2, np.float32)}
        return {**floats, "bn.num_batches_tracked": np.array(factor), "ids": np.arange(3)}

    with pytest.warns(UserWarning, match="running statistics"):
        merged = merge_state_dicts("task_arithmetic", [net(2), net(4)], base=net(1))
    told = {name: values.tolist() for name, values in merged.items()}
    assert told == {"bn.running_var": [3, 3], "w": [5, 5], "bn.num_batches_tracked": 4, "ids": [0, 1, 2]}


def test_every_fault_of_a_call_is_told_at_once_in_its_own_words() -> None:
    parameters = {"weight": [1, 2, 3], "lambda": [1, 2], "density": [0.1, 20], "densty": 1}
    assert faults_of("ties", [w(1), {"w": "one"}], parameters=parameters, seed=-1) == [
        "'w' is a str, not a tensor of torch or numpy · parents[1] · take out what is no weight or buffer",
        "ties merges what parents learned on top of a base, and none is given · base · give the state dict that they were all trained from",
        "weight has 3 values for 2 parents · parameters.weight · give one number for all, or one for each parent in order, the base not counted",
        "lambda is one value for all parents, got a list of 2 · parameters.lambda · gradients over depth are for recipes",
        "seed must be greater than or equal to 0, got -1 · seed · see docs/recipe.md",
        "density must be in [0, 1], got 20 · parameters.density of parents[1] · 20 % is 0.2",
        "unknown parameter 'densty' · parameters.densty · did you mean density?",
    ]


def test_shapes_and_names_that_do_not_go_together_are_told_for_all_parents() -> None:
    assert faults_of("linear", [w(1, 2), w(1), {"v": np.zeros(2)}]) == [
        (
            "parents[0] and parents[1] have different shapes: w is [2] vs [1] · 1 tensor · "
            "same-shape methods need parents of one architecture; `hubmerge zoo compatible` finds some"
        ),
        (
            "tensor 'v' of parents[2] is not in parents[0]; tensor 'w' of parents[0] is not in parents[2] · parents · "
            "every parent must have the same tensors; `hubmerge zoo compatible` finds such models"
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"parents": []}, "no parents are given · parents · parents=[first, second]"),
        ({"parents": w(1)}, "parents must be a list of state dicts · parents · parents=[first, second]"),
        ({"parents": [w(1), {}]}, "the model has no tensors · parents[1] · fetch or save it again"),
        (
            {"parents": [torch.nn.Linear(1, 1)]},
            "a state dict is a mapping of names to tensors, got Linear · parents[0] · give what its state_dict() returns",
        ),
        (
            {"parents": [w(1), in_torch(w(1))]},
            "some tensors are torch's, others numpy's · parents · convert them to one kind",
        ),
        (
            {"parents": [w(1), w(2)], "base": w(0), "parameters": {"weight": [1, 2]}},
            (
                "the base is not among the parents, and the method averages all it is given · base · "
                "give it as one of the parents, with a weight of its own, or leave it out"
            ),
        ),
        (
            {"parents": [w(1)], "name": "passthrough", "base": w(0)},
            "passthrough knows no base model · base · leave it out",
        ),
        (
            {"parents": [w(1), w(2)], "name": "slerp", "parameters": {"t": 0.5}},
            "slerp starts from one of its parents, and none is named · base · base=parents[0] starts from the first",
        ),
        (
            {"parents": [w(1), w(2)], "name": "slerp", "base": w(3), "parameters": {"t": 0.5}},
            "slerp takes 2 models, the base among them; there are 3 · parents · given: base, parents[0], parents[1]",
        ),
        ({"parents": [w(1)], "name": None}, "merge_method is missing · name · `hubmerge methods` lists them"),
        ({"parents": [w(1)], "name": "zzz"}, "unknown merge_method 'zzz' · name · `hubmerge methods` lists them"),
        (
            {"parents": [w(1)], "dtype": "int8"},
            "expected float32, float16, bfloat16 or float64, got 'int8' · dtype · see docs/recipe.md",
        ),
        (
            {"parents": [{"w": torch.zeros(2, device="meta")}]},
            "tensor 'w' is on the meta device, so it has no numbers to merge · parents[0] · load the weights first",
        ),
        (
            {"parents": [{"w": torch.zeros(2, 2).to_sparse()}]},
            "tensor 'w' is sparse · parents[0] · make it dense: to_dense()",
        ),
        (
            {"parents": [{"w": np.zeros(2, np.complex128)}]},
            "tensor 'w' is complex128 · parents[0] · convert it to float32, float16 or bfloat16",
        ),
        (
            {"parents": [{3: np.zeros(2)}]},
            "3 is no tensor's name · parents[0] · names are text, as in a checkpoint",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(arguments: dict[str, Any], fault: str) -> None:
    assert faults_of(**{"name": "linear", **arguments}) == [fault]


def test_a_number_that_is_not_finite_is_named_with_its_parent() -> None:
    with pytest.raises(MergeError, match=r"^tensor 'w' of parents\[1\] is not finite: entry 1 is nan · parents\[1\]"):
        merge_state_dicts("linear", [w(1, 2), w(1, np.nan)])


def test_what_a_plan_would_warn_of_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"^parameters.density is ignored: linear does not use it$"):
        merge_state_dicts("linear", [w(1)], parameters={"density": 0.5})
    base = w(1)
    with pytest.warns(UserWarning, match=r"^parents\[1\] is the base itself"):
        merged = merge_state_dicts("task_arithmetic", [w(3), base], base=base)
    assert merged["w"].tolist() == [3]


def test_the_base_of_a_method_that_knows_none_is_one_more_parent_as_on_disk() -> None:
    one, other = w(1), w(4)
    assert merge_state_dicts("linear", [one, other], base=one)["w"].tolist() == [2.5]
    with pytest.warns(UserWarning, match="averaged in"):
        merged = merge_state_dicts("linear", [one, other], base=w(-2), parameters={"weight": 1})
    assert merged["w"].tolist() == [1]


def test_arrays_are_merged_without_torch(tmp_path: Path) -> None:
    code = """
        import sys
        import numpy as np
        from hubmerge import merge_state_dicts
        one, base = {"w": np.ones(3, np.float32)}, {"w": np.zeros(3, np.float32)}
        assert merge_state_dicts("ties", [one], base=base)["w"].tolist() == [1, 1, 1]
        assert "torch" not in sys.modules
    """
    ran = run_python("\n".join(line[8:] for line in code.splitlines()), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
