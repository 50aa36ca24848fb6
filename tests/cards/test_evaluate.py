"""Models on suites: labels by name, perplexity worked out independently, and every meaningless score refused."""

from __future__ import annotations

import json
import math

import pytest
from card_builders import byte_tokenizer, image_model, language_model, merge_of, pictures, rows, text_model

from cards import EvaluationError, Results, Suite, SuiteError, evaluate
from zoo_index import CheckpointError, ModelNotFoundError

TEXTS = ("The cat sat.", "A much longer line about an owl that flew over the hill and was not seen again.", "No")


def _suite(folder, **task):
    return Suite.model_validate({"name": "s", "tasks": [{"name": "t", **task}]}).at(folder)


def _images(folder):
    return _suite(folder, task="image-classification", data="zoo")


def _fault(models, suite):
    with pytest.raises(EvaluationError) as caught:
        evaluate(models, suite)
    return str(caught.value)


@pytest.fixture
def zoo(tmp_path):
    pictures(tmp_path / "zoo", {"cat": 3, "dog": 1, "owl": 4})
    return tmp_path


def test_accuracy_is_the_share_of_right_names_with_its_bernoulli_error(zoo):
    results = evaluate([image_model(zoo / "model", "cat")], _images(zoo))

    (task,) = results.models[0].tasks
    assert (task.metric, task.value, task.n) == ("accuracy", 3 / 8, 8)
    assert task.stderr == pytest.approx(math.sqrt(3 / 8 * 5 / 8 / 8))
    assert (task.labels, task.data, task.higher_is_better) == (("cat", "dog", "owl"), "zoo", True)
    assert task.outcomes.correct == "e0"  # 111 0 0000: the cats come first


def test_labels_are_matched_by_name_whatever_their_position(zoo):
    models = [
        image_model(zoo / "in-order", "owl", ["cat", "dog", "owl"]),
        image_model(zoo / "shuffled", "owl", ["owl", "cat", "more", "dog"]),
    ]
    assert [model.tasks[0].value for model in evaluate(models, _images(zoo)).models] == [0.5, 0.5]


def test_a_model_without_one_of_the_labels_is_refused_with_names(zoo):
    fault = _fault([image_model(zoo / "model", "cat", ["cat", "dog"])], _images(zoo))
    assert fault == (
        "the model has no label 'owl'; its labels are cat, dog · model model, task 't' · "
        "name the data's labels as the model does, or set id2label and label2id in the model's config.json"
    )


def test_contradicting_label_tables_are_refused(zoo):
    folder = image_model(zoo / "model", "cat")
    config = json.loads((folder / "config.json").read_text())
    config["label2id"] = {"cat": 2, "dog": 1, "owl": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert _fault([folder], _images(zoo)) == (
        "label2id and id2label of the model's config.json contradict each other · model model, task 't' · "
        "make one the inverse of the other"
    )


def test_a_random_head_is_refused(zoo):
    from transformers import ResNetConfig, ResNetModel

    folder = image_model(zoo / "model")
    ResNetModel(ResNetConfig.from_pretrained(folder)).save_pretrained(folder)
    fault = _fault([folder], _images(zoo))
    assert fault.startswith(
        "model has no trained weights for image-classification: classifier.1.bias, classifier.1.weight would be random"
    )


def test_a_model_without_its_processor_is_refused(zoo):
    folder = image_model(zoo / "model", processor=False)
    assert _fault([folder], _images(zoo)) == (
        "model has no image processor, so nothing can be put into it for image-classification · "
        f"{folder} · save the image processor into the model's folder (expected preprocessor_config.json)"
    )


def test_a_model_of_another_kind_is_refused(zoo):
    fault = _fault([language_model(zoo / "model")], _images(zoo))
    assert fault.startswith("model has no image processor")
    rows(zoo / "a.jsonl", {"text": "x"})
    fault = _fault([image_model(zoo / "resnet")], _suite(zoo, task="perplexity", data="a.jsonl"))
    assert fault.startswith("resnet has no tokenizer")


def test_weights_that_are_not_finite_give_an_error_and_no_score(zoo):
    import torch
    from transformers import AutoModelForImageClassification

    folder = image_model(zoo / "model")
    model = AutoModelForImageClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.classifier[1].bias, math.nan)
    model.save_pretrained(folder)
    assert _fault([folder], _images(zoo)).startswith("the model's outputs are not finite · model model, task 't'")


def test_a_file_that_is_no_picture_is_named_by_its_row(zoo):
    (zoo / "zoo" / "cat" / "001.png").write_bytes(b"not a picture")
    fault = _fault([image_model(zoo / "model")], _images(zoo))
    assert fault.startswith("rows 0 to 7 cannot be read (cannot identify image file")
    assert fault.endswith("task 't' · mend or remove the file")


def test_a_config_that_transformers_stumbles_over_is_named(zoo):
    model = image_model(zoo / "odd", "cat")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_sizes": "many"}))
    fault = _fault([model], _images(zoo))
    assert fault.startswith("odd cannot be loaded for image-classification (Validation error for field 'hidden_sizes'")


def test_an_unknown_device_is_refused(zoo):
    with pytest.raises(EvaluationError, match="no device 'gpu7' · auto, cpu, cuda, cuda:1 or mps"):
        evaluate([image_model(zoo / "model")], _images(zoo), device="gpu7")


def test_all_models_are_looked_at_before_any_is_loaded(zoo):
    image_model(zoo / "model")
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        evaluate([zoo / "model", zoo / "modle"], _images(zoo))
    (zoo / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        evaluate([zoo / "model", zoo / "empty"], _images(zoo))
    assert _fault("./model", _images(zoo)) == "models must be a list · ./model · write ['./model']"
    assert _fault([], _images(zoo)) == "no model to evaluate · name at least one: a folder or org/name"


def test_data_faults_come_before_any_model_is_loaded(zoo):
    folder = image_model(zoo / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SuiteError, match="images cannot be used for perplexity"):
        evaluate([folder], _suite(zoo, task="perplexity", data="zoo"))


def test_results_name_models_without_their_paths_and_know_merges(zoo, monkeypatch):
    monkeypatch.chdir(zoo)
    for place in ("a", "b"):
        image_model(zoo / place / "out")
    merge_of(zoo / "b" / "out", [zoo / "a" / "out"], plan_hash="b" * 64)

    results = evaluate(["a/out", "./b/out", zoo / "a" / "out"], _images(zoo))

    assert [model.name for model in results.models] == ["out", "out (2)", "out (3)"]
    assert [model.merge for model in results.models] == [None, "b" * 64, None]
    assert results.merged("b" * 64).model == "./b/out"
    assert str(zoo) not in json.dumps([model.name for model in results.models])


def test_sizes_come_from_the_headers(zoo):
    from safetensors.numpy import load_file

    folder = image_model(zoo / "model")
    tensors = load_file(folder / "model.safetensors").values()
    (model,) = evaluate([folder], _images(zoo)).models
    assert model.parameters == sum(t.size for t in tensors if t.dtype.kind == "f")
    assert model.size_bytes == sum(t.nbytes for t in tensors)
    assert model.dtype == "float32"


def test_results_survive_json(zoo):
    results = evaluate([image_model(zoo / "model")], _images(zoo))
    assert Results.model_validate_json(results.to_json()) == results
    assert len(results.to_pandas()) == 1
    assert "<td>0.38 ± 0.17</td>" in results._repr_html_()


def test_texts_are_classified_the_same_in_any_batch(tmp_path):
    entries = [{"text": text, "label": label} for text, label in zip(TEXTS, ("good", "bad", "good"), strict=True)]
    rows(tmp_path / "a.jsonl", *entries)
    suite = _suite(tmp_path, task="text-classification", data="a.jsonl", max_length=16)
    folder = text_model(tmp_path / "model", "good")
    for batch in (1, 3):
        assert evaluate([folder], suite, batch_size=batch).models[0].tasks[0].value == pytest.approx(2 / 3)


def test_a_uniform_model_over_bytes_has_perplexity_258_and_log2_258_bits_per_byte(tmp_path):
    rows(tmp_path / "a.jsonl", *({"text": text} for text in TEXTS))
    suite = _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16)
    perplexity, bits = evaluate([language_model(tmp_path / "model", uniform=True)], suite).models[0].tasks

    assert (perplexity.metric, bits.metric) == ("perplexity", "bits_per_byte")
    assert perplexity.value == pytest.approx(258)
    assert bits.value == pytest.approx(math.log2(258))
    assert perplexity.stderr == pytest.approx(0, abs=1e-3)
    assert not perplexity.higher_is_better


def test_perplexity_is_that_of_a_plain_loop_without_batches_or_padding(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    rows(tmp_path / "a.jsonl", *({"text": text} for text in TEXTS))
    folder = language_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = byte_tokenizer()
    total = count = 0
    for text in TEXTS:
        tokens = tokenizer(text)["input_ids"]
        for start in range(0, len(tokens), 16):
            seen = [tokens[start - 1] if start else tokenizer.eos_token_id]
            for token in tokens[start : start + 16]:
                with torch.no_grad():
                    logits = model(torch.tensor([seen])).logits[0, -1]
                total -= float(torch.log_softmax(logits, -1)[token])
                count += 1
                seen.append(token)

    suite = _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16, metric="perplexity")
    for batch in (1, 4, 100):
        (task,) = evaluate([folder], suite, batch_size=batch).models[0].tasks
        assert task.value == pytest.approx(math.exp(total / count), rel=1e-5)
        assert sum(task.outcomes.counts) == count == sum(map(len, TEXTS))


def test_windows_longer_than_the_model_takes_are_refused(tmp_path):
    rows(tmp_path / "a.jsonl", {"text": "x"})
    fault = _fault([language_model(tmp_path / "model")], _suite(tmp_path, task="perplexity", data="a.jsonl"))
    assert fault == (
        "windows of 512 tokens, and the model takes 64 · model model, task 't' · "
        "set max_length: 64 in this task; it applies to all models, so that they are comparable"
    )


def test_a_tokenizer_without_any_start_token_is_refused(tmp_path):
    rows(tmp_path / "a.jsonl", {"text": "x"})
    folder = language_model(tmp_path / "model")
    byte_tokenizer(end=False).save_pretrained(folder)
    fault = _fault([folder], _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16))
    assert fault.startswith("the tokenizer has neither a bos nor an eos token to start a text with · model model")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    rows(tmp_path / "a.jsonl", {"text": "an owlet"})
    folder = language_model(tmp_path / "model")
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["owlet"])
    tokenizer.save_pretrained(folder)
    fault = _fault([folder], _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16))
    assert fault.startswith("the tokenizer makes token 258, and the model has embeddings for 0 to 257 · model model")


def test_an_adapter_is_scored_on_top_of_its_base(tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    rows(tmp_path / "a.jsonl", *({"text": text} for text in TEXTS))
    base = language_model(tmp_path / "base")
    for name, scale in (("silent", 0.0), ("loud", 1.0)):
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
        )
        for parameter, tensor in adapted.named_parameters():
            if "lora_B" in parameter:
                torch.nn.init.constant_(tensor, scale)
        adapted.save_pretrained(tmp_path / name)
    suite = _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16)

    results = evaluate([base, f"{base}+{tmp_path}/silent", f"{base}+{tmp_path}/loud", tmp_path / "loud"], suite)

    plain, silent, loud, alone = (model.tasks[0].value for model in results.models)
    assert [model.name for model in results.models] == ["base", "base+silent", "base+loud", "loud"]
    assert alone == loud  # by itself it comes with the base that its config names
    assert silent == pytest.approx(plain)
    assert abs(loud - plain) > 1e-3
    assert results.models[1].parameters > results.models[0].parameters


def test_an_adapter_that_brings_the_head_makes_its_base_a_classifier(tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import DistilBertForSequenceClassification, DistilBertModel

    whole = text_model(tmp_path / "whole", "good")
    model = DistilBertForSequenceClassification.from_pretrained(whole)
    config = LoraConfig(r=2, target_modules=["q_lin"], modules_to_save=["classifier", "pre_classifier"])
    get_peft_model(model, config).save_pretrained(tmp_path / "head")
    base = text_model(tmp_path / "base", "bad")
    headless = DistilBertModel.from_pretrained(whole)
    headless.save_pretrained(base)
    rows(tmp_path / "a.jsonl", {"text": "x", "label": "good"})
    suite = _suite(tmp_path, task="text-classification", data="a.jsonl", max_length=16)

    assert "would be random" in _fault([base], suite)
    assert evaluate([f"{base}+{tmp_path}/head"], suite).models[0].tasks[0].value == 1.0


def test_the_same_run_gives_the_same_numbers(tmp_path):
    rows(tmp_path / "a.jsonl", *({"text": text} for text in TEXTS))
    suite = _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16, samples=2)
    folder = language_model(tmp_path / "model")
    first, second = (evaluate([folder], suite).models[0].tasks[0] for _ in range(2))
    assert first.model_copy(update={"seconds": 0.0}) == second.model_copy(update={"seconds": 0.0})


def test_a_model_of_the_hub_cache_is_named_by_its_id_and_commit(tmp_path, monkeypatch):
    hub = tmp_path / "hub"
    commit = "c0ffee" * 6 + "c0ff"
    snapshot = hub / "models--zoo--bytes" / "snapshots" / commit
    language_model(snapshot, uniform=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rows(tmp_path / "a.jsonl", {"text": "words"})

    (model,) = evaluate(["zoo/bytes"], _suite(tmp_path, task="perplexity", data="a.jsonl", max_length=16)).models
    assert (model.name, model.commit) == ("zoo/bytes", commit)
    assert model.tasks[0].value == pytest.approx(258)
