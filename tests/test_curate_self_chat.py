"""Self-chat with scripted engines: who is asked what, when a dialogue ends, resuming."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.curate.config_dialogues import SelfChatConfig
from espalier.curate.dialogue_text import disorder
from espalier.curate.pipeline import Ledger
from espalier.curate.self_chat import parse_user, self_chat, user_prompt
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.errors import StageError
from espalier.journal import Journal, JournaledEngine
from espalier.offline.source import draw_prompts
from espalier.records import Example, Message, content_id

Reply = Callable[[Request], str | Completion]
HEADS = ("Play the user", "请扮演")


@dataclass
class Scripted:
    """An engine that answers by a function and remembers what it was asked."""

    reply: Reply
    model: str = "scripted"
    costly: bool = True
    asked: list[tuple[Request, Sampling]] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked.append((request, sampling))
            answer = self.reply(request)
            yield answer if isinstance(answer, Completion) else Completion(answer)

    def close(self) -> None:
        pass


def of_user(request: Request) -> bool:
    return request.prompt.startswith(HEADS)


def plain(request: Request) -> str:
    """A question or an answer that names what it was asked."""
    name = content_id(*(m.content for m in request.messages), str(request.sample))[:6]
    return f"Why {name}?" if of_user(request) else f"Because {name}."


def start(count: int = 4) -> list[Example]:
    return [Example.single(f"What is matter {n}?", "x", meta={"source": "a"}) for n in range(count)]


def run(
    reply: Reply = plain, rows: Sequence[Example] | None = None, **options: Any
) -> tuple[list[Example], list[dict[str, Any]], Scripted, Ledger]:
    handle = io.StringIO()
    ledger = Ledger("self-chat", handle)
    engine = Scripted(reply)
    made = list(self_chat(rows or start(), engine, SelfChatConfig(**options), 3, ledger))
    return made, [json.loads(line) for line in handle.getvalue().splitlines()], engine, ledger


def test_both_speak_in_turn_and_the_assistant_sees_a_chat() -> None:
    made, rejects, engine, _ = run(turns=3, max_tokens=99, user_max_tokens=33)
    assert not rejects and len(made) == 4
    for row, seed in zip(made, start(), strict=True):
        assert len(row.messages) == 6 and disorder(row.messages) is None
        assert row.messages[0].content == seed.prompt
        assert row.meta["parents"] == [seed.id]
        assert row.meta["turns"] == 3 and row.meta["teacher"] == "scripted"
        assert row.meta["source"] == row.meta["operator"] == "self-chat"
        assert (row.meta["group"], row.meta["language"]) == ("dialogue", "en")
    requests = [(request, sampling) for request, sampling in engine.asked if not of_user(request)]
    assert [len(request.messages) for request, _ in requests] == [1] * 4 + [3] * 4 + [5] * 4
    assert requests[8][0].messages == made[0].messages[:5]
    assert {sampling.max_tokens for _, sampling in requests} == {99}
    asked = [(request, sampling) for request, sampling in engine.asked if of_user(request)]
    assert len(asked) == 8
    assert {sampling.max_tokens for _, sampling in asked} == {33}
    assert {sampling.temperature for _, sampling in asked} == {1.0}
    # The last turn is an answer: nobody is asked for a question that gets none.
    assert not of_user(engine.asked[-1][0])


def test_the_user_is_asked_in_the_language_of_the_dialogue() -> None:
    made, _, engine, _ = run(rows=[Example.single("为什么下雨？", system="请简短。")], turns=2)
    (asked,) = [request for request, _ in engine.asked if of_user(request)]
    assert asked.prompt.startswith("请扮演")
    assert "【用户】\n为什么下雨？\n\n【助手】\nBecause" in asked.prompt
    assert asked.prompt.endswith("\n\n【用户】")
    assert [m.role for m in made[0].messages][:2] == ["system", "user"]
    assert made[0].meta["language"] == "zh"
    english = user_prompt([Message("user", "Why {dialogue}?"), Message("assistant", "So.")], "en")
    assert english.endswith("[User]\nWhy {dialogue}?\n\n[Assistant]\nSo.\n\n[User]")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Why so?", "Why so?"),
        ("  User: Why so?", "Why so?"),
        ("**User:** Why so?", "Why so?"),
        ("[User]\nWhy so?", "Why so?"),
        ("Human: Why so?", "Why so?"),
        ('"Why so?"', "Why so?"),
        ("“为什么？”", "为什么？"),
        ("用户：为什么？", "为什么？"),
        ("【用户】\n为什么？", "为什么？"),
        ("【用户】：为什么？", "为什么？"),
        ("Why so?\n\n[Assistant]\nBecause.\n\n[User]\nAh.", "Why so?"),
        ("Why so?\nAssistant: Because.", "Why so?"),
        ("为什么？\n助手：因为。", "为什么？"),
        ("为什么？\n【助手】\n因为。", "为什么？"),
        ("Thanks, bye. [END]", "Thanks, bye."),
        ("[END]", ""),
        ("[end]", ""),
        ("END", ""),
        ("[End of dialogue]", ""),
        ("【结束】", ""),
        ("[结束]", ""),
        ("结束。", ""),
        ("用户：【结束】", ""),
        ("", ""),
        ('Say "no" and "yes"', 'Say "no" and "yes"'),
        ("How do I end a loop?", "How do I end a loop?"),
        ("What does [x] mean, and [ending]?", "What does [x] mean, and [ending]?"),
        ("The user: who is it?", "The user: who is it?"),
    ],
)
def test_the_users_words_are_found(reply: str, said: str) -> None:
    assert parse_user(reply) == said


def only_for(number: int, reply: Reply) -> Reply:
    """This reply where the dialogue is about that matter, else the plain one."""
    return lambda request: (
        reply(request)
        if any(f"matter {number}?" in message.content for message in request.messages)
        else plain(request)
    )


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        ("[END]", "end"),
        ("What is matter 1?", "repeated_question"),
        (Completion("Half a que", "length"), "truncated"),
        (Completion("no connection", "error"), "engine_error"),
    ],
)
def test_how_a_dialogue_ends_early(said: str | Completion, ended: str) -> None:
    reply = only_for(1, lambda request: said if of_user(request) else plain(request))
    made, rejects, _, ledger = run(reply, turns=3)
    assert [len(row.messages) for row in made] == [6, 2, 6, 6]
    assert made[1].meta["ended"] == ended and "ended" not in made[0].meta
    assert not rejects
    assert ledger.tallies[0].changed == ({} if ended == "end" else {f"ended_by_{ended}": 1})


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (Completion("Half an ans", "length"), "truncated"),
        (Completion("no connection", "error"), "engine_error"),
        ("  ", "empty_answer"),
    ],
)
def test_a_bad_answer_takes_its_question_with_it(answer: str | Completion, rule: str) -> None:
    def late(request: Request) -> str | Completion:
        return answer if not of_user(request) and len(request.messages) == 5 else plain(request)

    made, rejects, _, ledger = run(only_for(1, late), turns=4)
    assert [len(row.messages) for row in made] == [8, 4, 8, 8]
    assert made[1].meta["turns"] == 2 and disorder(made[1].messages) is None
    assert ledger.tallies[0].changed == {f"ended_by_{rule}": 1}

    def at_once(request: Request) -> str | Completion:
        return plain(request) if of_user(request) else answer

    made, rejects, _, _ = run(only_for(1, at_once), turns=4)
    assert len(made) == 3
    assert [reject["rule"] for reject in rejects] == [rule]
    assert rejects[0]["meta"]["parents"] == [start()[1].id]


def test_short_dialogues_can_be_rejected() -> None:
    reply = only_for(2, lambda request: "[END]" if of_user(request) else plain(request))
    made, rejects, _, _ = run(reply, turns=3, min_turns=2)
    assert len(made) == 3
    assert [reject["rule"] for reject in rejects] == ["short_dialogue"]
    with pytest.raises(ValueError, match="min_turns"):
        SelfChatConfig(turns=2, min_turns=3)


def test_prompts_and_sources_choose_where_to_begin() -> None:
    rows = [*start(5), Example.single("Other?", meta={"source": "b"})]
    assert len(run(rows=rows, prompts=2)[0]) == 2
    (row,) = run(rows=rows, sources=["b"])[0]
    assert row.messages[0].content == "Other?"
    long = Example.make([Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    made, rejects, _, _ = run(rows=[long, *start(1)])
    assert len(made) == 1 and [reject["rule"] for reject in rejects] == ["not_single_turn"]
    with pytest.raises(StageError, match="no prompt"):
        run(rows=rows, sources=["c"])
    with pytest.raises(StageError, match="empty_answer 4"):
        run(lambda request: "")


def test_equal_prompts_get_draws_of_their_own() -> None:
    made, _, engine, _ = run(rows=[start(1)[0], start(1)[0]], turns=1)
    assert made[0].response != made[1].response
    assert [request.sample for request, _ in engine.asked] == [0, 1]


def outcome(engine: Engine) -> tuple[list[dict[str, Any]], str]:
    handle = io.StringIO()
    config = SelfChatConfig(turns=4, min_turns=2)
    made = self_chat(start(25), engine, config, 3, Ledger("self-chat", handle))
    return [row.to_json() for row in made], handle.getvalue()


def blemished(request: Request) -> str | Completion:
    chance = Random(
        content_id(*(m.content for m in request.messages), str(request.sample))
    ).random()
    if chance < 0.15:
        return "[END]" if of_user(request) else ""
    return Completion("Half", "length") if chance < 0.25 else plain(request)


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_journal_gives_the_same_dialogues(seed: int, tmp_path: Path) -> None:
    whole = outcome(Scripted(blemished))
    assert len(whole[0]) > 5 and whole[1]
    path = tmp_path / "teacher.jsonl"

    def journaled() -> tuple[int, tuple[list[dict[str, Any]], str]]:
        script = Scripted(blemished)
        engine = JournaledEngine(script, Journal(path))
        result = outcome(engine)
        engine.close()
        return len(script.asked), result

    total, result = journaled()
    assert result == whole
    data = path.read_bytes()
    cut = Random(f"{seed}:cut").randrange(len(data))
    path.write_bytes(data[:cut])
    again, resumed = journaled()
    assert resumed == whole
    assert total - again in (data[:cut].count(b"\n"), data[:cut].count(b"\n") + 1)


def test_the_embedded_teacher_talks_with_itself() -> None:
    rows = draw_prompts(200, seed=4)
    engine = OfflineEngine(seed=1)
    handle = io.StringIO()
    made = list(self_chat(rows, engine, SelfChatConfig(turns=5), 0, Ledger("chat", handle)))
    assert len(made) > 190
    assert all(disorder(row.messages) is None for row in made)
    for language in ("en", "zh"):
        lengths = {row.meta["turns"] for row in made if row.meta["language"] == language}
        assert lengths == {1, 2, 3, 4, 5}
    assert not any(
        turn.content.startswith(("User:", "用户：")) for row in made for turn in row.messages
    )
