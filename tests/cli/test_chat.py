"""A conversation in a terminal, replies to files and pipes: the words of the function, and nothing that acts."""

from __future__ import annotations

import codecs
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import polyhead as library
from polyhead import Conversation, Sample
from polyhead.tasks.chat import Reply
from tests.cli.conftest import Polyhead, refused
from tests.tasks.words import decoder_in_folder


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talker")
    decoder_in_folder(folder, "LlamaForCausalLM", chats=True, max_position_embeddings=4000)
    return folder


def all_but_candidates(reply: Reply) -> dict[str, Any]:
    """Of one reply there is one."""
    assert len(reply.candidates) == 1
    return {name: value for name, value in vars(reply).items() if name != "candidates"}


def test_one_question_gets_one_reply(polyhead: Polyhead, talker: Path, tmp_path: Path) -> None:
    wanted = library.chat("the cat", model=talker, max_new=12)
    found = polyhead("chat", "-m", talker, "--once", "the cat", "--max-new", 12)
    assert (found.code, found.out) == (0, wanted.text + "\n")
    assert found.err.splitlines() == (
        [] if wanted.finished else ["Cut short after 12 tokens; --max-new allows more, where the model has places."]
    )
    told = json.loads(polyhead("chat", "-m", talker, "--once", "the cat", "--max-new", 12, "--json").out)
    assert told == all_but_candidates(wanted)
    drawn = polyhead("chat", "-m", talker, "--once", "the cat", "--max-new", 12, "--temperature", 2, "--seed", 5)
    assert drawn.out == library.chat("the cat", model=talker, max_new=12, search=Sample(2.0, seed=5)).text + "\n"
    (tmp_path / "mine.jinja").write_text("{{ messages[-1].content }} {{ mood }}{{ n + 1 }}", encoding="utf-8")
    how = ("--template", tmp_path / "mine.jinja", "--set", "mood=glad", "--set", "n=2", "--json", "--max-new", 4)
    given = json.loads(polyhead("chat", "-m", talker, "--once", "the cat", *how).out)
    assert given["text"] == library.complete("the cat glad3", model=talker, max_new=4).text


def test_lines_of_a_pipe_are_turns_of_one_conversation(polyhead: Polyhead, talker: Path, tmp_path: Path) -> None:
    talk = Conversation(talker, system="Be brief.", max_new=9)
    wanted = [all_but_candidates(talk.say(said)) for said in ("the cat", "我")]
    how = ("-m", talker, "--system", "Be brief.", "--max-new", 9, "--json")
    found = polyhead("chat", *how, stdin="the cat\n我\n".encode())
    assert [json.loads(line) for line in found.lines] == wanted
    talk.save(tmp_path / "talk.jsonl")
    more = polyhead("chat", "-m", talker, "--load", tmp_path / "talk.jsonl", "--once", "a", "--max-new", 9, "--json")
    after = talk.say("a")
    assert json.loads(more.out)["text"] == after.text
    polyhead("chat", *how, "-o", tmp_path / "out.jsonl", stdin="the cat\n我\n".encode())
    assert (tmp_path / "out.jsonl").read_text("utf-8") == found.out


def test_a_file_of_conversations_gets_a_reply_for_each(polyhead: Polyhead, talker: Path, tmp_path: Path) -> None:
    talks = [
        [{"role": "user", "content": "the cat"}],
        [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}],
    ]
    file = tmp_path / "talks.jsonl"
    file.write_text(json.dumps(talks[0]) + "\n" + json.dumps({"messages": talks[1], "id": 7}) + '\n"hello"\n', "utf-8")
    found = polyhead("chat", "-m", talker, "-i", file, "--max-new", 5, "--json")
    wanted = [all_but_candidates(library.chat(talk, model=talker, max_new=5)) for talk in (*talks, "hello")]
    assert [json.loads(line) for line in found.lines] == wanted
    file.write_text('"hello"\n{"role": "user"}\n', "utf-8")
    refused(polyhead("chat", "-m", talker, "-i", file), "talks.jsonl line 2: messages must be a text or a list")
    file.write_text('"hello"\n{\n', "utf-8")
    refused(polyhead("chat", "-m", talker, "-i", file), "talks.jsonl line 2 is not JSON")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--once", "a"), "Give the folder of a model"),
        (("-m", "zh-en", "--once", "a"), "chat needs a model that gives next word"),
        (("-m", "nowhere", "--once", "a"), "There is no model 'nowhere'"),
        (("-m", "{talker}", "--once", "a", "--set", "b"), "--set takes NAME=VALUE"),
        (("-m", "{talker}", "--once", "a", "--template", "b"), "no template 'b'"),
        (("-m", "{talker}", "--once", "a", "-i", "b"), "--input brings whole conversations"),
        (("-m", "{talker}", "--once", "a", "--load", "no.jsonl"), "no.jsonl cannot be read"),
        (("-m", "{talker}", "--once", "a", "--beam", "2", "--temperature", "1"), "give one of them"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    polyhead: Polyhead, talker: Path, words: tuple[str, ...], sentence: str
) -> None:
    refused(polyhead("chat", *(word.format(talker=talker) for word in words)), sentence)


HEARING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from polyhead.cli.main import main; main()"
)


class Terminal:
    """`polyhead chat` on a terminal of its own, and a person who types."""

    def __init__(self, *words: object):
        self.ours, self.theirs = pty.openpty()
        world = os.environ | {"TERM": "dumb", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        #  who leads a session and opens a terminal owns it; tests may run as a shell's background job, which is deaf to
        #  Ctrl-C, and so would be what it starts
        script = 'exec "$@" <"$0" >"$0" 2>&1'
        command = ["sh", "-c", script, os.ttyname(self.theirs), sys.executable, "-c", HEARING, "chat", *map(str, words)]
        self.process = subprocess.Popen(command, env=world, start_new_session=True)
        self.seen, self.text = "", codecs.getincrementaldecoder("utf-8")("replace")

    def until(self, pattern: str, seconds: float = 60) -> str:
        """What appears up to this, which is then no longer waited for."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, f"{pattern} did not come; there is {self.seen!r}"
            if select.select([self.ours], [], [], 0.1)[0]:
                try:
                    self.seen += self.text.decode(os.read(self.ours, 65536))
                except OSError:  # the other side is gone
                    assert re.search(pattern, self.seen), f"{pattern} never came; there is {self.seen!r}"
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def type(self, text: str) -> None:
        if text == "\x03":
            time.sleep(0.5)  # a signal between the prompt and the wait for a key is heard only with the next key
        os.write(self.ours, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Terminals that are gone when the test is over, however it ends."""
    opened: list[Terminal] = []

    def open_one(*words: object) -> Terminal:
        opened.append(Terminal(*words))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_a_conversation_in_a_terminal(terminal: Callable[..., Terminal], talker: Path, tmp_path: Path) -> None:
    """Reply, stop, mistake, undo, save, load, end: one conversation, as a person has it."""
    at = terminal("-m", talker, "--max-new", 3500, "--system", "Be brief.")
    at.until("Ctrl-D ends.*\n> ")
    at.type("\x03")
    at.until("Ctrl-D ends.\r\n> ")
    at.type("/hlep\n")
    at.until(r"There is no command /hlep; .* Did you mean '/help'\?\r\n> ")
    at.type("/help\n")
    assert "/save FILE" in at.until("say /TEXT\r\n> ")
    at.type("/undo\n")
    at.until("Nothing has been said yet.\r\n> ")
    at.type("the cat\n")
    at.until("the cat\r\n.{20}")
    at.type("\x03")
    shown = at.until("Stopped here; the conversation goes on, and /undo takes this back.\r\n> ")
    assert not set(shown) & set("\x1b\x00\x07\x08\x9b\x7f")
    at.type(f"/save {tmp_path}/talk.jsonl\n")
    at.until("3 messages written to .*\r\n> ")
    saved = [json.loads(line) for line in (tmp_path / "talk.jsonl").read_text("utf-8").splitlines()]
    assert [each["role"] for each in saved] == ["system", "user", "assistant"] and 10 < len(saved[2]["content"])
    whole = library.chat(saved[:2], model=talker, max_new=40)
    assert whole.text[:10] == saved[2]["content"][:10]
    at.type("/undo\n")
    at.until("Taken back: the cat\r\n> ")
    at.type("/system Be 我.\n")
    at.until("The model is told: Be 我.\r\n> ")
    at.type("/save /proc/no/such/place\n")
    at.until("/proc/no/such/place could not be written .there is no folder .*\r\n> ")
    at.type(f"/load {tmp_path}/talk.jsonl\n")
    at.until("3 messages read from .*\r\n> ")
    at.type("/again\n")
    at.until("/again\r\n.{20}")
    at.type("\x03")
    at.until("Stopped here.*\r\n> ")
    at.type("\x04")
    assert at.process.wait(60) == 0


def test_a_reply_that_ends_in_a_terminal_cannot_act_on_it(terminal: Callable[..., Terminal], talker: Path) -> None:
    """A random model's, drawn wildly, which hold controls of every kind."""
    at = terminal("-m", talker, "--max-new", 60, "--temperature", "3")
    at.until("\n> ")
    for said in ("a", "b", "/again"):
        at.type(said + "\n")
        shown = at.until("Cut short after 60 tokens; .*\r\n> |\r\n> ")
        assert not set(shown) & set("\x1b\x00\x07\x08\x9b\x7f\u202e")
    at.type("//quit\n")
    at.until("\r\n> ")
    at.type("/quit\n")
    assert at.process.wait(60) == 0
