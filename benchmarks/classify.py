"""How good classifiers are beside the baseline that anybody has: TF-IDF or pixels, and logistic regression.

Texts with several labels each (GoEmotions): every system chooses a threshold for each label on the validation file, in
the same way, and is scored on the test file. Pictures of digits (MNIST): accuracy on the test files.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Report, Table, needs, parsed, parser_of, progress, stop

from polyhead.inputs.label_names import LabelNames, read_names
from polyhead.inputs.pictures import read_idx
from polyhead.inputs.readers import Source, read
from polyhead.tasks.classify import Classifier
from polyhead.tasks.label_scores import LabelScores, best_thresholds, label_scores, truth_of
from polyhead.tasks.load import load

EXAMPLES = """\
  python benchmarks/classify.py --texts runs/goemotions --texts runs/goemotions-tuned --pictures runs/digits
  python benchmarks/classify.py --quick                                 the baselines alone, on a tenth of the data"""

Rows = tuple[list[str], list[list[int]]]
Judge = Callable[[Sequence[Any]], np.ndarray]  # things -> probabilities [n, L]
HEAD = ("system", "macro F1", "micro F1", "all labels right", "macro F1 at 0.5", "micro F1 at 0.5", "things a second")


def rows(path: Path, names: LabelNames, step: int) -> Rows:
    """The texts of a file and their labels, each `step`-th."""
    pairs = list(read(Source(path=needs(path, "the folder of the data sets with --data"))))[::step]
    return [pair.source for pair in pairs], [names.encode(pair.target) for pair in pairs]


def tf_idf(train: Rows, n_labels: int, best: Rows) -> tuple[str, Judge]:
    """Words and pairs of words, weighed, under one logistic regression a label; how strict, chosen on `best`."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    found: list[tuple[float, str, Judge]] = []
    for words in ((1, 1), (1, 2)):
        for strict in (1.0, 4.0, 16.0):
            progress(f"TF-IDF, words {words}, C = {strict:g}")
            regression = OneVsRestClassifier(LogisticRegression(C=strict, max_iter=400, class_weight=None))
            vectors = TfidfVectorizer(ngram_range=words, min_df=2, sublinear_tf=True)
            pipeline = make_pipeline(vectors, regression).fit(train[0], truth_of(train[1], n_labels).astype(int))
            p, truth = pipeline.predict_proba(best[0]), truth_of(best[1], n_labels)
            f1 = label_scores(p, truth, [""] * n_labels, thresholds=best_thresholds(p, truth)).macro_f1
            name = f"TF-IDF ({'words' if words == (1, 1) else 'words and pairs'}), logistic regression, C = {strict:g}"
            found.append((f1, name, pipeline.predict_proba))
    return max(found, key=lambda one: one[0])[1:]


def pixels(images: np.ndarray, labels: np.ndarray) -> Judge:
    from sklearn.linear_model import LogisticRegression

    progress("pixels, logistic regression")
    model = LogisticRegression(max_iter=1000, tol=1e-3).fit(images.reshape(len(images), -1) / 255, labels)
    return lambda some: model.predict_proba(np.stack(list(some)).reshape(len(some), -1) / 255)


def ours(folder: str) -> tuple[str, Judge]:
    loaded = load(folder)
    count = sum(parameter.numel() for parameter in loaded.model.parameters())
    name = f"polyhead, {Path(folder).name} ({count / 1e6:.1f} million parameters)"
    return name, Classifier(loaded).scores


def of_texts(options: argparse.Namespace) -> tuple[Table, list[LabelScores]]:
    folder = options.data / "goemotions"
    names = LabelNames(read_names(needs(folder / "labels.json", "the data sets with --data")), ",")
    step = 10 if options.quick else 1
    train, valid, test = (rows(folder / f"{name}.tsv.gz", names, step) for name in ("train", "dev", "test"))
    systems = dict([tf_idf(train, len(names), valid), *map(ours, options.texts or [])])
    share = truth_of(train[1], len(names)).mean(0)
    systems["how often each label occurs"] = lambda some: np.tile(share, (len(some), 1))
    found, cells = [], []
    for name, judge in systems.items():
        progress(name)
        p, truth = judge(valid[0]), truth_of(valid[1], len(names))
        thresholds = best_thresholds(p, truth)
        begun = time.perf_counter()
        p, truth = judge(test[0]), truth_of(test[1], len(names))
        pace = len(p) / (time.perf_counter() - begun)
        tuned, plain = (label_scores(p, truth, names.names, thresholds=at) for at in (thresholds, [0.5] * len(names)))
        shares = (tuned.macro_f1, tuned.micro_f1, tuned.accuracy, plain.macro_f1, plain.micro_f1)
        cells.append([name, *(f"{100 * x:.1f}" for x in shares), f"{pace:,.0f}"])
        found.append(tuned)
    return Table(f"GoEmotions, {len(test[0]):,} test comments, {len(names)} labels", HEAD, cells), found


def of_pictures(options: argparse.Namespace) -> Table:
    folder = options.data / "mnist"
    train, test = (
        [read_idx(needs(folder / f"{part}-{what}-ubyte.gz", "--data")) for what in ("images-idx3", "labels-idx1")]
        for part in ("train", "t10k")
    )
    if options.quick:
        train = [side[::10] for side in train]
    systems = {"pixels, logistic regression": pixels(*train), **dict(map(ours, options.pictures or []))}
    cells = []
    for name, judge in systems.items():
        begun = time.perf_counter()
        p = judge(list(test[0]))
        pace = len(p) / (time.perf_counter() - begun)
        cells.append([name, f"{100 * (p.argmax(1) == test[1]).mean():.2f}", f"{pace:,.0f}"])
    return Table(f"MNIST, {len(test[1]):,} test pictures", ("system", "accuracy", "things a second"), cells)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("classify", __doc__ or "", EXAMPLES, rounds=0)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the data sets (default %(default)s)")
    parser.add_argument("--texts", action="append", help="a trained folder of texts' labels, again and again")
    parser.add_argument("--pictures", action="append", help="a trained folder of digits' labels, again and again")
    options = parsed(parser, arguments)
    if not (options.data / "goemotions").is_dir():
        stop(f"{options.data} holds no goemotions; give the folder of the data sets with --data")
    torch.set_num_threads(options.threads)
    report = Report("Labels", options)
    table, _ = of_texts(options)
    report.tables += [table, of_pictures(options)]
    report.finish(
        "In percent. Thresholds are chosen on the validation file, for every system in the same way; at 0.5 there is "
        "no choice. BERT-base, pretrained on 3.3 billion words, comes to a macro F1 of 46 (Demszky et al. 2020)."
    )


if __name__ == "__main__":
    main()
