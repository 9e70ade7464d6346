"""Self-chat (Baize; Xu et al. 2023, arXiv 2304.01196): dialogues that the teacher has with itself.

A seed prompt is the first question. Then the teacher plays in turn the assistant, who sees the
dialogue as a chat, and the user, who is asked in one prompt what this user says next. Both speak
in calls of their own, so no transcript has to be taken apart. The dialogues of a batch go on in
step, and are given in the order of their prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from espalier.curate.asking import SampleNumbers, fill, replies, template
from espalier.curate.config_dialogues import SelfChatConfig
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.respond import batches, fault
from espalier.engines.base import Engine, Sampling
from espalier.errors import StageError
from espalier.records import Example, Message
from espalier.text import language, normalise

SOURCE = "self-chat"
_SPEAKERS: dict[Language, dict[str, str]] = {
    "en": {"user": "[User]", "assistant": "[Assistant]"},
    "zh": {"user": "【用户】", "assistant": "【助手】"},
}
_LABEL = re.compile(
    r"^[ \t#*>\[【(（]*(?:user|human|用户|人类|提问者)[ \t#*\]】)）]*(?:[:：][ \t*]*|\n)",
    re.IGNORECASE,
)
_OTHER_SPEAKER = re.compile(
    r"^[ \t#*>\[【(（]*(?:assistant|ai|bot|助手|助理)[ \t#*\]】)）]*(?:[:：]|$)"
    r"|^[ \t#*>]*[\[【](?:user|human|用户|人类)[\]】]",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(
    r"\[ ?(?:end|stop)\b[^\]\n]*\]|【\s*(?:结束|完|终)[^】\n]*】|\[结束\]", re.IGNORECASE
)
_ONLY_END = re.compile(r"\W*(?:end|结束)\W*", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]+)"|“([^“”]+)”|「([^「」]+)」')


@dataclass(slots=True)
class Dialogue:
    """A dialogue on its way; `over` says why it does not go on."""

    seed: Example
    turns: list[Message]
    over: str = ""
    evidence: str = ""

    @property
    def language(self) -> Language:
        """The language to ask in: Chinese for Chinese, English for all else."""
        return "zh" if language(self.seed.prompt) == "zh" else "en"

    @property
    def answers(self) -> int:
        """Complete exchanges of question and answer."""
        return sum(turn.role == "assistant" for turn in self.turns)


def user_prompt(turns: Sequence[Message], spoken: Language) -> str:
    """Ask what the user of a dialogue says next."""
    names = _SPEAKERS[spoken]
    said = [f"{names[t.role]}\n{t.content}" for t in turns if t.role in names]
    return fill(template("chat_user", spoken), {"dialogue": "\n\n".join(said)})


def parse_user(text: str) -> str:
    """The user's words in a reply to `user_prompt`; "" where the user has ended the dialogue.

    A speaker's name or quotes around the words go, and so does everything from the place where
    the reply goes on as the assistant.
    """
    body = text.strip()
    end = _END.search(body)
    if end is not None:
        body = body[: end.start()].strip()
    body = _LABEL.sub("", body, count=1)
    other = _OTHER_SPEAKER.search(body)
    if other is not None:
        body = body[: other.start()]
    body = body.strip()
    quoted = _QUOTED.fullmatch(body)
    if quoted:
        body = next(group for group in quoted.groups() if group).strip()
    return "" if _ONLY_END.fullmatch(body) else body


def self_chat(
    prompts: Iterable[Example],
    teacher: Engine,
    config: SelfChatConfig,
    seed: int,
    ledger: Ledger,
) -> Iterator[Example]:
    """Dialogues that begin with these prompts, in their order.

    A dialogue ends when the user has no more to ask, repeats itself or its turn is unusable, or
    at `turns` answers. A bad answer ends it before that question; without any good answer, or
    with fewer than `min_turns`, it is a reject. Raises StageError when nothing is left.
    """
    chat = _Chat(teacher, config, seed)
    tally = ledger.tally("self-chat")
    for batch in batches(_chosen(prompts, config)):
        dialogues = []
        for row in batch:
            tally.seen += 1
            asked = sum(turn.role == "user" for turn in row.messages)
            if asked == 1:
                dialogues.append(Dialogue(row, list(row.prompt_messages)))
            else:
                tally.reject(row, "not_single_turn", f"{asked} user turns")
        chat.talk(dialogues)
        for dialogue in dialogues:
            yield from _finished(dialogue, teacher.model, config, tally)
    if not tally.seen:
        raise StageError(
            "Self-chat has no prompt to begin with.",
            where="curate.self_chat",
            expected="rows with a question"
            + (f" of the sources {', '.join(config.sources)}" if config.sources else ""),
            hint="change curate.self_chat.sources" if config.sources else "look at the data",
        )
    ledger.require_rows("dialogues")


def _chosen(prompts: Iterable[Example], config: SelfChatConfig) -> Iterator[Example]:
    taken = 0
    for row in prompts:
        if taken == config.prompts:
            return
        if config.sources is None or row.meta.get("source") in config.sources:
            taken += 1
            yield row


def _finished(
    dialogue: Dialogue, teacher: str, config: SelfChatConfig, tally: Tally
) -> Iterator[Example]:
    meta = {
        "source": SOURCE,
        "language": language(dialogue.seed.prompt),
        "group": "dialogue",
        "operator": SOURCE,
        "parents": [dialogue.seed.id],
        "teacher": teacher,
        "turns": dialogue.answers,
        **({"ended": dialogue.over} if dialogue.over else {}),
    }
    row = Example.make(dialogue.turns, meta)
    if not dialogue.answers:
        tally.reject(row, dialogue.over or "no_answer", dialogue.evidence)
    elif dialogue.answers < config.min_turns:
        why = f"{dialogue.answers} answers; ended by {dialogue.over}: {dialogue.evidence}"
        tally.reject(row, "short_dialogue", why)
    else:
        if dialogue.over and dialogue.over != "end":
            tally.change(f"ended_by_{dialogue.over}")
        tally.kept += 1
        yield row


@dataclass(slots=True)
class _Chat:
    """The teacher in both parts, and how often each request was made."""

    teacher: Engine
    config: SelfChatConfig
    seed: int
    numbers: SampleNumbers = field(default_factory=SampleNumbers)

    def talk(self, dialogues: Sequence[Dialogue]) -> None:
        """Let all of them go on until they are over or have all their turns."""
        for number in range(1, self.config.turns + 1):
            going = [dialogue for dialogue in dialogues if not dialogue.over]
            self._answer(going)
            if number < self.config.turns:
                self._ask([dialogue for dialogue in going if not dialogue.over])

    def _answer(self, dialogues: Sequence[Dialogue]) -> None:
        sampling = self._sampling(self.config.temperature, self.config.max_tokens)
        requests = [self.numbers.chat(tuple(dialogue.turns)) for dialogue in dialogues]
        for dialogue, completion in replies(self.teacher, dialogues, requests, sampling):
            text = completion.text.strip()
            problem = fault(completion) or (None if text else ("empty_answer", "no text"))
            if problem is None:
                dialogue.turns.append(Message("assistant", text))
                continue
            dialogue.over, dialogue.evidence = problem
            if dialogue.answers:
                # The question without an answer goes; the dialogue ends with the last answer.
                dialogue.turns.pop()

    def _ask(self, dialogues: Sequence[Dialogue]) -> None:
        sampling = self._sampling(self.config.user_temperature, self.config.user_max_tokens)
        requests = [
            self.numbers.prompt(user_prompt(dialogue.turns, dialogue.language))
            for dialogue in dialogues
        ]
        for dialogue, completion in replies(self.teacher, dialogues, requests, sampling):
            text = parse_user(completion.text)
            problem = fault(completion)
            asked = {normalise(turn.content) for turn in dialogue.turns if turn.role == "user"}
            if problem is not None:
                dialogue.over, dialogue.evidence = problem
            elif not text:
                dialogue.over, dialogue.evidence = "end", completion.text
            elif normalise(text) in asked:
                dialogue.over, dialogue.evidence = "repeated_question", text
            else:
                dialogue.turns.append(Message("user", text))

    def _sampling(self, temperature: float, max_tokens: int) -> Sampling:
        return Sampling(
            temperature=temperature, top_p=self.config.top_p, max_tokens=max_tokens, seed=self.seed
        )
