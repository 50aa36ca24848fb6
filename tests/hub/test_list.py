"""Lists of repositories as the real client reads them: filters, order, pages."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError


def listed(api, **query):
    return [model.id for model in api.list_models(**query)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"filter": "base_model:ada/base"}, ["bob/adapter", "acme/merged", "ada/tuned"]),
        ({"filter": "base_model:finetune:ada/base"}, ["ada/tuned"]),
        ({"filter": "base_model:merge:ada/tuned"}, ["acme/merged"]),
        ({"filter": "base_model:adapter:ada/base"}, ["bob/adapter"]),
        ({"filter": "license:apache-2.0"}, ["ada/base"]),
        ({"filter": ["safetensors", "poems"]}, ["ada/tuned"]),
        ({"filter": "peft"}, ["bob/adapter"]),
        ({"filter": "llama", "author": "ada"}, ["ada/tuned", "ada/base"]),
        ({"trained_dataset": "acme/verses"}, ["acme/merged"]),
        ({"search": "MERG"}, ["acme/merged"]),
        ({"author": "acme"}, ["acme/merged"]),
        ({"gated": True}, []),
        ({"num_parameters": "min:3"}, ["acme/merged", "ada/tuned", "ada/base"]),
        ({"num_parameters": "min:1,max:0.002K"}, ["bob/adapter"]),
        ({"sort": "downloads"}, ["ada/base", "ada/tuned", "acme/merged", "bob/adapter"]),
        ({"sort": "likes", "limit": 2}, ["bob/adapter", "acme/merged"]),
        ({"sort": "last_modified"}, ["bob/adapter", "acme/merged", "ada/tuned", "ada/base"]),
        ({"sort": "created_at", "limit": 1}, ["bob/adapter"]),
    ],
)
def test_models_are_filtered_and_sorted(family, api, query, found):
    assert listed(api, **query) == found


def test_a_list_comes_in_pages_that_are_asked_for_one_by_one(start_hub):
    hub = start_hub(list_page=3)
    for number in range(8):
        hub.add(f"ada/model-{number}", downloads=number // 2)  # equal keys stand on both sides of a page's end
    models = HfApi(hub.url).list_models(sort="downloads")

    first = [next(models).id for _ in range(3)]
    assert len(hub.log) == 1
    rest = [model.id for model in models]
    assert len(hub.log) == 3
    assert sorted(first + rest) == [f"ada/model-{number}" for number in range(8)]
    assert [int(name[-1]) // 2 for name in first + rest] == [3, 3, 2, 2, 1, 1, 0, 0]
    assert all("cursor=" in record.query for record in hub.log.requests()[1:])


def test_a_model_that_appears_between_two_pages_shifts_none(start_hub):
    hub = start_hub(list_page=2)
    for number in range(4):
        hub.add(f"ada/model-{number}", downloads=number)
    models = HfApi(hub.url).list_models(sort="downloads")
    first = [next(models).id, next(models).id]
    hub.add("ada/sudden", downloads=100)

    assert first + [model.id for model in models] == ["ada/model-3", "ada/model-2", "ada/model-1", "ada/model-0"]


def test_a_list_shows_little_unless_asked(family, api):
    brief, full = (next(iter(api.list_models(author="acme", full=flag))) for flag in (False, True))

    assert (brief.sha, brief.siblings, brief.card_data) == (None, None, None)
    assert full.sha == family.repository("acme/merged").head.id
    assert len(full.siblings) == 4
    card = next(iter(api.list_models(author="acme", cardData=True, fetch_config=True)))
    assert (card.card_data.datasets, card.config["model_type"]) == ("acme/verses", "llama")


def test_datasets_are_apart_from_models(family, api):
    assert [dataset.id for dataset in api.list_datasets()] == ["acme/verses"]
    assert api.dataset_info("acme/verses").sha is not None
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/verses")
