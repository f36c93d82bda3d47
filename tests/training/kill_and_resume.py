"""Kill a training with SIGKILL at random moments, start it again each time, and compare its bits with an unbroken one.

    python -m tests.training.kill_and_resume --kills 20

Every life is a forked child, so that it starts in milliseconds; a state is written at every step, so that many kills
fall into the writing. Prints a line a kill and ends with code 1 if a single bit differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from io import StringIO
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from polyhead.training import checkpoint
from polyhead.training.loop import train
from polyhead.training.settings import Every, Training
from tests.training.tiny import Spelling, same_bits, saved_model

SETTINGS = Training(
    epochs=8,
    lr=1e-2,
    warmup=4,
    ema_decay=0.9,
    accumulate=3,
    evaluate_every=Every(5, "steps"),
    checkpoint_every=Every(1, "steps"),
    log_every=3,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    dice, kills, same = random.Random(asked.seed), 0, True
    torch.set_num_threads(1)  # a process with threads should not fork
    with tempfile.TemporaryDirectory() as folder:
        unbroken = Path(folder, "unbroken")
        run(unbroken)  # in this process: the children find everything imported
        start = time.monotonic()
        run(Path(folder, "timed"))
        length = time.monotonic() - start
        while kills < asked.kills:  # a training that reaches its end is compared, and another one is killed
            killed = Path(folder, f"killed-{kills}")
            kills += kill_often(killed, asked.kills - kills, dice, length)
            same = same and equal(unbroken, killed)
    print(f"{kills} kills: {'every bit is that of the unbroken training' if same else 'THE BITS DIFFER'}")
    return 0 if same else 1


def run(out: Path) -> None:
    train(Spelling(SETTINGS), SETTINGS, out, console=Console(file=StringIO()))


def live(out: Path, kill_after: float | None = None) -> int:
    """One life of the training, in a child, killed after so many seconds; what ended it, as `os.waitpid` says."""
    child = os.fork()
    if not child:
        code = 1
        try:
            run(out)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def kill_often(out: Path, kills: int, dice: random.Random, length: float) -> int:
    """Kill a training so often, or until it is through, each time after a random part of an unbroken one's `length`."""
    for done in range(kills):
        wait = dice.uniform(0, length / 3)
        ended = live(out, wait)
        if ended == 0:
            return done
        if os.WTERMSIG(ended) != signal.SIGKILL:
            raise SystemExit(f"the training failed by itself, in {out}")
        writing = " while writing" if any((out / "training").glob(".step-*")) else ""
        states = checkpoint.states(out / "training")
        print(f"killed after {1000 * wait:4.0f} ms{writing}: goes on from {states[0].name if states else 'nothing'}")
    if live(out) != 0:
        raise SystemExit("the resumed training failed")
    return kills


def equal(one: Path, other: Path) -> bool:
    """Whether the best models and the last states have the same bits, and the metrics the same lines."""
    states = [checkpoint.states(out / "training")[0] for out in (one, other)]
    parts = ("weights.safetensors", "optimizer.safetensors", "average.safetensors")
    return (
        same_bits(saved_model(one), saved_model(other))
        and states[0].name == states[1].name
        and all(same_bits(load_file(states[0] / part), load_file(states[1] / part)) for part in parts)
        and lines(one) == lines(other)
    )


def lines(out: Path) -> list[dict[str, float]]:
    """The metrics, without what the clock says."""
    text = (out / "training" / "metrics.jsonl").read_text(encoding="utf-8")
    clock = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in text.splitlines()]


if __name__ == "__main__":
    raise SystemExit(main())
