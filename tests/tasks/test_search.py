"""Searching: the order of `transformers` and its cosines, indexes that are kept, and what cannot be is one sentence."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file, save_file

import polyhead
from polyhead import ArgumentError, CheckpointError, DataError
from polyhead.tasks.load import Loaded
from polyhead.tasks.picture_index import FORMAT, PictureIndex, known, vectors_of
from polyhead.tasks.search import Searcher, nearest
from polyhead.tasks.space import Space
from tests.hostile import HOSTILE
from tests.tasks.clip import LINES, clip_in_folder, picture, pictures_in
from tests.tasks.words import decoder_in_folder, in_folder, vocabulary

pytestmark = pytest.mark.parity
LONG = "a red bicycle and the dog in the garden, two cats sat on the mat"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a folder, 40 pictures (more than a batch) and a file of texts."""
    folder = tmp_path_factory.mktemp("world")
    clip_in_folder(folder / "model")
    pictures_in(folder / "photos", 36)
    pictures_in(folder / "photos/more", 4, start=36)
    (folder / "captions.txt").write_text("\n".join([*LINES, "", ""]), "utf-8")
    return folder


@pytest.fixture
def loaded(world: Path) -> Loaded:
    return polyhead.load(world / "model")


def photos(world: Path) -> list[Path]:
    return sorted((world / "photos").rglob("*.png"))


def theirs(world: Path, texts: list[str], images: list[Any]) -> Any:
    """Their answer: scores and vectors of length 1 of both."""
    model = transformers.CLIPModel.from_pretrained(world / "model").eval()
    processor: Any = transformers.CLIPProcessor.from_pretrained(world / "model")
    opened = [Image.open(image) if isinstance(image, str | Path) else image for image in images]
    with torch.no_grad():
        return model(**processor(text=texts, images=opened, return_tensors="pt", padding=True))


def test_images_are_found_by_a_text_in_their_order_with_their_cosines(world: Path) -> None:
    files = photos(world)
    answer = theirs(world, LINES, list(files))
    cosines = answer.text_embeds @ answer.image_embeds.T
    shares = answer.logits_per_text.double().softmax(-1)
    for line, row, part in zip(LINES, cosines, shares, strict=True):
        found = polyhead.search(line, world / "photos", model=world / "model", top=7, shares=True)
        order = row.argsort(descending=True)[:7].tolist()
        assert found.query == line
        assert [hit.item for hit in found.hits] == [str(files[i]) for i in order]
        assert [hit.score for hit in found.hits] == pytest.approx(row[order].tolist(), abs=1e-5)
        assert [hit.share for hit in found.hits] == pytest.approx(part[order].tolist(), rel=1e-3)


def test_texts_are_found_by_an_image_and_images_by_an_image(world: Path, loaded: Loaded) -> None:
    files = photos(world)
    answer = theirs(world, LINES, list(files))
    found = polyhead.search(image=files[3], among=world / "captions.txt", model=loaded)
    order = (answer.text_embeds @ answer.image_embeds[3]).argsort(descending=True).tolist()
    assert [hit.item for hit in found.hits] == [LINES[i] for i in order]
    assert all(hit.share is None for hit in found.hits)
    alike = polyhead.search(image=Image.open(files[3]), among=files, model=loaded, top=3)
    order = (answer.image_embeds @ answer.image_embeds[3]).argsort(descending=True)[:3].tolist()
    assert order[0] == 3 and alike.hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert [hit.item for hit in alike.hits] == [str(files[i]) for i in order]


def test_many_are_asked_at_once_and_arrays_go_by_number(world: Path, loaded: Loaded) -> None:
    arrays = [picture(i) for i in range(5)]
    many = polyhead.search(LINES, arrays, model=loaded, top=2)
    assert [each.query for each in many] == LINES
    alone = [polyhead.search(line, arrays, model=loaded, top=2) for line in LINES]
    for one, other in zip(many, alone, strict=True):
        assert [hit.item for hit in one.hits] == [hit.item for hit in other.hits]
    assert {hit.item for each in many for hit in each.hits} <= {str(i + 1) for i in range(5)}
    both = polyhead.search(image=[arrays[0], arrays[1]], among=LINES, model=loaded, top=1)
    assert [each.query for each in both] == ["1", "2"]


def test_a_text_of_many_tokens_is_the_mean_of_its_windows(world: Path, loaded: Loaded) -> None:
    space = Space(loaded)
    ids = loaded.tokenizer.read(LONG).ids
    assert len(ids) > 20
    parts = [[ids[0], *ids[start : min(start + 18, len(ids) - 1)], ids[-1]] for start in range(1, len(ids) - 1, 18)]
    model: Any = transformers.CLIPModel.from_pretrained(world / "model").eval()
    with torch.no_grad():
        each = [model.get_text_features(input_ids=torch.tensor([part])).pooler_output[0] for part in parts]
    mean = torch.stack([vector / vector.norm() for vector in each]).mean(0)
    [found] = space.texts([LONG])
    assert found == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    beside = space.texts([LINES[0], LONG, LINES[1]])[1]
    assert beside == pytest.approx(found, abs=1e-5)


def test_the_nearest_are_those_of_sorting_all_and_equal_ones_keep_their_order() -> None:
    chance = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        cosines = chance.integers(0, 6, n).astype(np.float32)
        wanted = sorted(range(n), key=lambda i: (-cosines[i], i))
        for top in (1, 2, 3, n, n + 1):
            assert nearest(cosines, top).tolist() == wanted[:top]


def test_texts_are_found_by_a_text_with_an_encoder_of_texts(tmp_path: Path) -> None:
    """As sentence-transformers find them: cosines of the means of the words, whatever their length."""
    model = in_folder(tmp_path, "BertModel")
    words = vocabulary()
    lines = ["the cat sat on the mat.", "where is the dog?", "it ran", "a big red house and a small blue garden"]
    with torch.no_grad():
        means = [model(**words(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in lines]
    cosines = torch.nn.functional.cosine_similarity(means[2][None], torch.stack(means))
    order = cosines.argsort(descending=True).tolist()
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n\n", "utf-8")
    for among in (lines, tmp_path / "lines.txt"):
        found = polyhead.search(lines[2], among, model=tmp_path)
        assert [hit.item for hit in found.hits] == [lines[i] for i in order] and order[0] == 2
        assert [hit.score for hit in found.hits] == pytest.approx(cosines[order].tolist(), abs=1e-5)
        assert all(hit.share is None for hit in found.hits)
    vectors = polyhead.embed(lines, model=tmp_path, unit=True)
    for each, row in zip(polyhead.search(lines, lines, model=tmp_path), vectors @ vectors.T, strict=True):
        assert [hit.score for hit in each.hits] == pytest.approx(sorted(row, reverse=True), abs=1e-6)


def test_an_encoder_of_texts_finds_no_images_and_gives_no_shares(loaded: Loaded, tmp_path: Path) -> None:
    in_folder(tmp_path / "bert", "BertModel")
    files, index = pictures_in(tmp_path / "p", 2), tmp_path / "kept"
    polyhead.search("a cat", files, model=loaded, index=index)
    held = index.read_bytes()
    cases: list[dict[str, Any]] = [
        {"text": "a cat", "among": files},
        {"text": "a cat", "among": tmp_path / "p"},
        {"image": files[0], "among": LINES},
        {"text": "a cat", "among": [picture(0)]},
        {"text": "a cat", "index": index},
        {"text": "a cat", "among": files, "index": index, "prune": True},
    ]
    for given in cases:
        with pytest.raises(
            ArgumentError, match=r"bert is a BertModel, which reads texts and no images; search texts by"
        ):
            polyhead.search(**given, model=tmp_path / "bert")
    with pytest.raises(ArgumentError, match="bert is a BertModel, which gives cosines and no shares; leave shares out"):
        polyhead.search("a cat", LINES, model=tmp_path / "bert", shares=True)
    with pytest.raises(ArgumentError, match="An index keeps vectors of images, but texts are given"):
        polyhead.search("a cat", LINES, model=tmp_path / "bert", index=index)
    assert index.read_bytes() == held


# --- an index ---------------------------------------------------------------------------------------------------------


class Counting(Space):
    """A space that notes which images it is shown."""

    def batches(self, images: Any, progress: Any = None) -> Any:
        self.shown = [*getattr(self, "shown", []), *images]
        return super().batches(images, progress)


def test_an_index_gives_the_same_and_reads_only_what_is_new_or_changed(
    world: Path, loaded: Loaded, tmp_path: Path
) -> None:
    space, index = Counting(loaded), tmp_path / "kept.safetensors"
    files = pictures_in(tmp_path / "p", 6)
    plain = Space(loaded).images(files)
    steps: list[int] = []

    def looked() -> list[Path]:
        space.shown = []
        steps.clear()
        found = vectors_of(space, files, index, steps.append)
        vectors = found.vectors
        assert (found.paths, found.left_out, sum(steps)) == (files, [], len(files))
        assert np.allclose(vectors[[0, 1, 3, 4, 5]], plain[[0, 1, 3, 4, 5]], atol=1e-6)
        assert np.allclose(vectors, Space(loaded).images(files), atol=1e-6)
        return space.shown

    assert looked() == files
    written = index.stat().st_mtime_ns
    assert looked() == [] and index.stat().st_mtime_ns == written  # nothing to say, nothing written
    Image.fromarray(picture(99)).save(files[2])
    assert looked() == [files[2]]
    os.utime(files[4], ns=(1, 1))
    assert looked() == [files[4]]
    assert looked() == []


def test_an_index_alone_is_searched_and_moves_with_its_images(world: Path, loaded: Loaded, tmp_path: Path) -> None:
    files = pictures_in(tmp_path / "here" / "p", 5)
    how: dict[str, Any] = {"model": loaded, "top": 5}
    first = polyhead.search(LINES[0], files, index=tmp_path / "here" / "kept", **how)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = polyhead.search(LINES[0], index=tmp_path / "there" / "kept", **how)
    assert [(Path(hit.item).name, hit.score) for hit in moved.hits] == [
        (Path(hit.item).name, hit.score) for hit in first.hits
    ]
    assert all(Path(hit.item).is_file() for hit in moved.hits)
    part = polyhead.search(LINES[0], tmp_path / "there" / "p" / "1.png", index=tmp_path / "there" / "kept", **how)
    assert [Path(hit.item).name for hit in part.hits] == ["1.png"]
    assert len(polyhead.search(LINES[0], index=tmp_path / "there" / "kept", **how).hits) == 5  # the others stay


def test_images_of_a_folder_that_is_away_stay_in_the_index_until_it_is_pruned(loaded: Loaded, tmp_path: Path) -> None:
    files, index = pictures_in(tmp_path / "a", 2) + pictures_in(tmp_path / "drive", 3, start=2), tmp_path / "kept"
    how: dict[str, Any] = {"model": loaded, "index": index, "top": 9}

    def hits(**more: Any) -> dict[str, float]:
        return {"/".join(Path(hit.item).parts[-2:]): hit.score for hit in polyhead.search(LINES[0], **how, **more).hits}

    whole = hits(among=files)
    (tmp_path / "drive").rename(tmp_path / "unmounted")
    with pytest.warns(
        UserWarning, match=r"3 images of .*kept are not there now \(.*drive/0\.png, \.\.\.\) and are not searched"
    ):
        assert hits() == {name: whole[name] for name in ("a/0.png", "a/1.png")}
    assert hits(among=files[:1]) == pytest.approx({"a/0.png": whole["a/0.png"]})  # who asks for others hears nothing
    with pytest.raises(DataError, match=r"0\.png cannot be read"):
        hits(among=files)
    with pytest.warns(UserWarning, match=r"0\.png cannot be read"):
        assert len(hits(among=files[:3], skip=True)) == 2
    (tmp_path / "unmounted").rename(tmp_path / "drive")
    space = Counting(loaded)
    space.shown = []
    assert vectors_of(space, [], index).paths and space.shown == []
    assert hits() == whole
    (tmp_path / "drive").rename(tmp_path / "unmounted")
    with pytest.warns(UserWarning, match="dropped from it"):
        hits(prune=True)
    assert hits() == {name: whole[name] for name in ("a/0.png", "a/1.png")}
    (tmp_path / "a").rename(tmp_path / "b")
    held = index.read_bytes()
    for prune in (False, True):
        with pytest.raises(DataError, match=r"None of the 2 images that .*kept holds is there now \(.*a/0\.png"):
            hits(prune=prune)
    assert index.read_bytes() == held


def test_strings_in_a_list_are_files_where_they_are_named_like_images(world: Path, loaded: Loaded) -> None:
    files = photos(world)[:3]
    as_paths = polyhead.search(LINES[0], files, model=loaded)
    assert polyhead.search(LINES[0], [str(file) for file in files], model=loaded) == as_paths
    with pytest.raises(DataError, match=r"no\.JPG cannot be read"):
        polyhead.search(LINES[0], [str(files[0]), "no.JPG"], model=loaded)
    for other in (str(files[0]), files[0], picture(0)):
        with pytest.raises(ArgumentError, match=r"found .* beside the text 'a cat'"):
            polyhead.search(LINES[0], [other, "a cat"], model=loaded)


def test_an_index_behind_a_link_remembers(world: Path, loaded: Loaded, tmp_path: Path) -> None:
    files = pictures_in(tmp_path / "p", 3)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    space, read = Space(loaded), list[int]()
    for _ in range(2):
        vectors_of(space, files, tmp_path / "link" / "kept", read.append)
    index = PictureIndex.load(tmp_path / "link" / "kept", space.fingerprint(), space.width)
    assert index.absent() == []
    assert [index.place(key).resolve() for key in index.entries] == [path.resolve() for path in files]
    assert all(known(index, path) for path in files)


def test_what_was_found_before_a_stop_is_kept(
    world: Path, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pictures_in(tmp_path / "p", 6)
    monkeypatch.setattr("polyhead.tasks.space.IMAGES", 2)
    space, heard, before = Space(loaded), list[int](), set(threading.enumerate())

    def stop(count: int) -> None:
        heard.append(count)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vectors_of(space, files, tmp_path / "kept", stop)
    index = PictureIndex.load(tmp_path / "kept", space.fingerprint(), space.width)
    assert [*index.entries] == [f"p/{i}.png" for i in range(4)]
    assert heard == [2, 2] and not [thread for thread in {*threading.enumerate()} - before if "Pool" in thread.name]


def test_images_that_cannot_be_read_are_left_out_where_asked_and_forgotten(
    world: Path, loaded: Loaded, tmp_path: Path
) -> None:
    files = pictures_in(tmp_path / "p", 4)
    find, index = Searcher(loaded), tmp_path / "kept"
    assert len(find.images(files, index=index).names) == 4
    files[1].write_bytes(b"no image")
    for kept in (index, None):
        among = find.images(files, index=kept, skip=True)
        assert among.names == [str(file) for file in files if file != files[1]] and len(among.vectors) == 3
        assert len(among.left_out) == 1 and "1.png is not an image" in among.left_out[0]
        with pytest.raises(DataError, match=r"1\.png is not an image"):
            find.images(files, index=kept)
    assert "p/1.png" not in PictureIndex.load(index, find.space.fingerprint(), find.space.width).entries
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of 4 images can be read. .*0\.png is empty"):
        find.images(files, skip=True)


def test_an_index_of_another_model_and_a_damaged_one_are_refused(world: Path, loaded: Loaded, tmp_path: Path) -> None:
    files, index = pictures_in(tmp_path / "p", 2), tmp_path / "kept"
    vectors_of(Space(loaded), files, index)
    other = polyhead.load(world / "model")
    with torch.no_grad():
        next(iter(other.tower("image").model.parameters())).add_(1e-3)
    with pytest.raises(DataError, match="was made by another model"):
        polyhead.search("a", files, model=other, index=index)
    held = index.read_bytes()
    for damaged in (held[: len(held) // 2], b"", b"PNG" * 100):
        index.write_bytes(damaged)
        with pytest.raises(DataError, match="is no index of images"):
            polyhead.search("a", files, model=loaded, index=index)
    with pytest.raises(DataError, match=r"is no index of images .*it says None"):
        polyhead.search("a", files, model=loaded, index=world / "model" / "model.safetensors")


def test_an_index_from_anywhere_is_one_of_ours_or_one_sentence(loaded: Loaded, tmp_path: Path) -> None:
    space, files, index = Space(loaded), pictures_in(tmp_path / "p", 2), tmp_path / "kept"
    vectors_of(space, files, index)
    held, head = load_file(index), {"kind": FORMAT, "model": space.fingerprint()}

    def named(text: str) -> Any:
        return {"names": np.frombuffer(text.encode(), np.uint8)}

    n, width = held["vectors"].shape
    for changed, told in (
        (named('["a", 3]'), "its names are no list of texts"),
        (named('{"a": 1, "b": 2}'), "its names are no list of texts"),
        (named("[" * 100_000), "recursion"),
        (named('["a"]'), r"its vectors are float32 \[2, \d+\], expected float32 \[1, \d+\]"),
        ({"vectors": held["vectors"][:, :-1]}, "its vectors are"),
        ({"vectors": held["vectors"][0]}, "its vectors are"),
        ({"vectors": held["vectors"].astype(np.float64)}, "its vectors are float64"),
        ({"vectors": np.full((n, width), np.nan, np.float32)}, "its vectors are no finite numbers"),
        ({"files": held["files"].astype(np.float32)}, r"its files are float32 \[2, 2\], expected int64"),
        ({"files": held["files"][:, :1]}, r"its files are int64 \[2, 1\]"),
        ({"files": held["files"][0, 0]}, r"its files are int64 \[1\]"),
    ):
        save_file({name: np.ascontiguousarray(x) for name, x in (held | changed).items()}, index, head)
        with pytest.raises(DataError, match=rf"kept is no index of images \(.*{told}.*\); delete it"):
            polyhead.search("a", model=loaded, index=index)
    for names in (HOSTILE, ["/dev/null", "../" * 99 + "etc/passwd"]):  # that name no image of anybody
        save_file(
            {**named(json.dumps(names)), "vectors": np.ones((len(names), width), np.float32),
             "files": np.zeros((2, len(names)), np.int64)}, index, head,
        )  # fmt: skip
        with pytest.raises(DataError):
            polyhead.search("a", model=loaded, index=index)


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_one_sentence(world: Path, loaded: Loaded, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"among": LINES}, "Give a text or an image to search for; found none"),
        ({"text": "a", "image": photos(world)[0], "among": LINES}, "found both"),
        ({"text": "a"}, "Give images or texts to search among"),
        ({"text": "a", "among": LINES, "index": tmp_path / "k"}, "An index keeps vectors of images"),
        ({"text": "a", "among": [picture(0)], "index": tmp_path / "k"}, "An index keeps images by their files"),
        ({"text": "a", "among": LINES, "top": 0}, "top must be a whole number of at least 1, found 0"),
        ({"text": "a", "among": [photos(world)[0]], "prune": True}, "Only an index is pruned"),
        ({"text": 3, "among": LINES}, "texts must be a text or an iterable of texts"),
    ]
    for given, told in cases:
        with pytest.raises(ArgumentError, match=told):
            polyhead.search(**given, model=loaded)
    cases = [
        ({"text": " ", "among": LINES}, "Text 1 of 1 is empty"),
        ({"text": "a", "among": []}, "There is nothing to search"),
        ({"text": "a", "among": tmp_path}, "holds no images"),
        ({"text": "a", "among": tmp_path / "no"}, "There is no .*no; give a folder of images"),
        ({"text": "a", "index": tmp_path / "none"}, "There is no index .*none yet"),
        ({"image": tmp_path / "no.png", "among": LINES}, r"no\.png cannot be read"),
    ]
    for given, told in cases:
        with pytest.raises(DataError, match=told):
            polyhead.search(**given, model=loaded)
    decoder_in_folder(tmp_path / "gpt2", "GPT2Model")
    with pytest.raises(ArgumentError, match=r"search needs a model whose words see .* both sides; .* is a GPT2Model"):
        polyhead.search("a", LINES, model=tmp_path / "gpt2")
    with pytest.raises(ArgumentError, match=r"search needs a model that gives vectors, .* is a MarianMTModel"):
        polyhead.search("a", LINES, model="zh-en")


def test_damaged_weights_give_no_answer(world: Path) -> None:
    loaded = polyhead.load(world / "model")
    torch.nn.init.constant_(loaded.model.get_parameter("text.head.project.weight"), float("nan"))
    with pytest.raises(CheckpointError, match="no finite numbers"):
        polyhead.search("a", LINES, model=loaded)
