"""Repair of damaged text: wrong decodings, control characters, left-over entities.

Only damage is touched. Full-width punctuation, curly quotes, ligatures, line breaks and Unicode
forms are the writer's and stay. Encodings are repaired by ftfy (Speer 2019), one line at a time,
and by one rule of our own for UTF-8 that was read as GBK, which ftfy does not know.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from espalier.curate.config_filters import RepairConfig
from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Message, Messages
from espalier.text import language

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

_ROUNDS = 8
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# U+FEFF and U+2060 join nothing inside a text; U+200B parts words in Thai, Khmer and Lao only.
_INVISIBLE = re.compile("[\u2060\ufeff]")
_SPACE = re.compile("\u200b")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#[xX][0-9a-fA-F]{2,5});")
_MARKUP = re.compile(
    r"</?[a-zA-Z!]|```|\b(?:html|xml|xhtml|entit(?:y|ies)|escap\w*|encod\w*|markup)\b"
    r"|实体|转义|编码|标签|网页",
    re.IGNORECASE,
)
# Han characters and what else pairs of bytes above ASCII give in GBK.
_GBK_RUN = re.compile("[\u00a4-\u00f7\u0401-\u0451\u2010-\u266f\u3000-\u9fff\ue000-\uffe5]{3,}")
_CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef\u2010-\u2027]+")


def repair_step(config: RepairConfig) -> Step:
    """A step that repairs all turns (and `meta.input`, `meta.reference`) of damaged rows.

    A repaired row is another text, so it gets the id of that text; `meta.repaired` lists what was
    done, `meta.original_id` keeps the id that it came with, and its lineage (`parents` and so on)
    stays.
    """

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            fixed, done = repaired_row(row, config)
            for what in done:
                tally.change(f"repaired_{what}")
            yield fixed

    return step


def repaired_row(row: Example, config: RepairConfig) -> tuple[Example, list[str]]:
    """The row with its texts repaired, and what was done, sorted; the row itself if nothing."""
    done: set[str] = set()
    turns: Messages = tuple(
        Message(message.role, _into(message.content, config, done)) for message in row.messages
    )
    meta: dict[str, Any] = row.meta
    for name in ("input", "reference"):
        value = meta.get(name)
        if isinstance(value, str):
            fixed = _into(value, config, done)
            meta = meta if fixed == value else {**meta, name: fixed}
    if not done:
        return row, []
    listed = sorted(done)
    meta = {**meta, "repaired": sorted({*listed, *meta.get("repaired", [])})}
    if turns == row.messages:
        return Example(row.id, turns, meta), listed
    return Example.make(turns, {**meta, "original_id": meta.get("original_id", row.id)}), listed


def _into(text: str, config: RepairConfig, done: set[str]) -> str:
    fixed, what = repaired(text, config)
    done.update(what)
    return fixed


def repaired(text: str, config: RepairConfig) -> tuple[str, list[str]]:
    """The text without damage, and what was done: `encoding`, `controls`, `invisible`,
    `entities`."""
    wanted = [
        (what, fix)
        for what, on, fix in (
            ("controls", config.controls, _without_controls),
            ("invisible", config.invisible, _without_invisible),
            ("encoding", config.encoding, _decoded),
            ("entities", config.entities, _without_entities),
        )
        if on
    ]
    done: set[str] = set()
    # One repair can bring the next to light; damage is seldom more than two deep.
    for _ in range(_ROUNDS):
        before = text
        for what, fix in wanted:
            fixed = fix(text)
            if fixed != text:
                done.add(what)
                text = fixed
        if text == before:
            break
    return text, sorted(done)


def _decoded(text: str) -> str:
    if text.isascii():
        return text
    lines = (line if line.isascii() else _decoded_line(line) for line in text.split("\n"))
    return "\n".join(lines)


def _decoded_line(line: str) -> str:
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    if is_bad(line):
        line = fix_encoding(line, _only_encoding())
    return _GBK_RUN.sub(lambda m: _utf8_read_as_gbk(m.group()), line)


def _utf8_read_as_gbk(run: str) -> str:
    """What the bytes behind a run of characters say as UTF-8, if they say Chinese.

    Valid UTF-8 behind three GBK characters or more is no accident: its first byte is E2 to EF,
    where GBK has the rarer characters, and every third one of the rest would have to fit too.
    """
    try:
        read = run.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return run
    return read if _CHINESE.fullmatch(read) else run


def _only_encoding() -> TextFixerConfig:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def _without_controls(text: str) -> str:
    if not _CONTROL.search(text):
        return text
    from ftfy.fixes import fix_surrogates, remove_control_chars, remove_terminal_escapes

    return remove_control_chars(fix_surrogates(remove_terminal_escapes(text)))


def _without_invisible(text: str) -> str:
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", text)
    if _SPACE.search(text) and language(text) in ("en", "zh", "ja", "ko"):
        text = _SPACE.sub("", text)
    return text


def _without_entities(text: str) -> str:
    if "&" not in text or not _ENTITY.search(text) or _MARKUP.search(text):
        return text
    # `&amp;quot;` was escaped twice.
    while True:
        plain = _ENTITY.sub(lambda m: html.unescape(m.group()).replace("\xa0", " "), text)
        if plain == text or _MARKUP.search(plain):
            return text
        text = plain
