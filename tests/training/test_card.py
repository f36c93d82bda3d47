"""The model card."""

from __future__ import annotations

import yaml

from polyhead.training.card import Card, Cost, DataSet, Score, hardware, render

COST = Cost(hours=1.5, steps=12_000, epochs=20, tokens=34_000_000, hardware="two cores")


def test_the_head_is_yaml_and_the_body_says_everything():
    card = Card(
        name="zh-en",
        summary="Translates Chinese.",
        languages=("zh", "en"),
        license="apache-2.0",
        data=(
            DataSet(
                name="tatoeba", license="CC BY 2.0 FR", attribution="tatoeba.org", examples=21_681, url="https://x.y"
            ),
            DataSet(name='odd: "name"', license="MIT", attribution="its authors"),
        ),
        limits=("Everyday sentences only.",),
        pipeline="translation",
        usage='polyhead translate zh-en "你好"',
    )
    scores = [Score(data="test", metric="BLEU", value=34.25, signature="nrefs:1|tok:13a")]
    text = render(card, settings={"train.lr": 1e-3, "train.betas": [0.9, 0.98], "x": None}, scores=scores, cost=COST)
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "language": ["zh", "en"],
        "datasets": ["tatoeba", 'odd: "name"'],
        "metrics": ["bleu"],
        "tags": ["polyhead"],
    }
    for words in (
        "# zh-en",
        "| test | BLEU | 34.25 | `nrefs:1\\|tok:13a` |",
        "| [tatoeba](https://x.y) | 21,681 | CC BY 2.0 FR | tatoeba.org |",
        "- Everyday sentences only.",
        "1.50 hours on two cores: 12,000 steps over 20 epochs, 34,000,000 tokens",
        "train.lr = 0.001",
        "train.betas = [0.9, 0.98]",
    ):
        assert words in body
    assert "None" not in text and "null" not in text


def test_a_card_can_be_made_of_nothing():
    text = render(Card(name="nameless"), settings={}, scores=[], cost=COST)
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {"library_name": "transformers", "tags": ["polyhead"]}
    assert "# nameless" in body and "Scores" not in body and "Settings" not in body


def test_the_hardware_has_a_name():
    assert "thread" in hardware()
