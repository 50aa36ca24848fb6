"""One trunk under several heads: the same logits as models that were built with those heads."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from cards.trunk import head_modules, logits_under

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PICTURES = {"image_size": 8, "patch_size": 4}
TOKENS = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]])}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)}

CLASSES = {
    "resnet": (
        tf.ResNetForImageClassification,
        lambda n: tf.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=n),
        PIXELS,
        ("classifier",),
    ),
    "vit": (
        tf.ViTForImageClassification,
        lambda n: tf.ViTConfig(**SMALL, **PICTURES, num_labels=n),
        PIXELS,
        ("classifier",),
    ),
    "clip": (
        tf.CLIPForImageClassification,
        lambda n: tf.CLIPConfig(vision_config=SMALL | PICTURES, num_labels=n),
        PIXELS,
        ("classifier",),
    ),
    "distilbert": (
        tf.DistilBertForSequenceClassification,
        lambda n: tf.DistilBertConfig(vocab_size=9, dim=8, n_heads=2, n_layers=1, hidden_dim=16, num_labels=n),
        TOKENS,
        ("pre_classifier", "classifier", "dropout"),
    ),
    "gpt2": (
        tf.GPT2ForSequenceClassification,
        lambda n: tf.GPT2Config(vocab_size=9, n_embd=8, n_head=2, n_layer=1, pad_token_id=0, num_labels=n),
        TOKENS,
        ("score",),
    ),
}


@pytest.mark.parametrize("family", CLASSES)
def test_a_trunk_gives_under_another_models_head_what_that_head_gives_on_it(family):
    make, config, inputs, parts = CLASSES[family]
    torch.manual_seed(0)
    model, other = make(config(2)).eval(), make(config(5)).eval()
    assert tuple(sorted(head_modules(other))) == tuple(sorted(parts))
    whole = make(config(5)).eval()
    trunk = {name: tensor for name, tensor in model.state_dict().items() if name.split(".")[0] not in parts}
    whole.load_state_dict(other.state_dict() | trunk)

    with torch.inference_mode():
        own, borrowed, again = logits_under(model, [None, head_modules(other), None], inputs)
        assert torch.equal(own, model(**inputs).logits)
        assert torch.equal(borrowed, whole(**inputs).logits)
    assert torch.equal(own, again)
    assert borrowed.shape == (2, 5)


def test_the_trunk_runs_once_for_all_heads():
    make, config, inputs, _ = CLASSES["vit"]
    model = make(config(2)).eval()
    runs = []
    model.vit.layers[0].register_forward_hook(lambda *_: runs.append(1))
    with torch.inference_mode():
        logits_under(model, [None, head_modules(make(config(3))), None], inputs)
        assert len(runs) == 1
        model(**inputs)
    assert len(runs) == 2  # nothing is remembered afterwards


def test_a_class_that_is_one_piece_has_no_head_to_be_taken():
    with pytest.raises(ValueError, match="Linear has no trunk and head that could be told apart"):
        head_modules(torch.nn.Linear(2, 2))
