"""The prompts of critique and revision, and tolerant readers of what is answered."""

from __future__ import annotations

import re

from espalier.curate.asking import fill, template
from espalier.curate.options import Language
from espalier.curate.principles import Principle

_THINKING = re.compile(r"<(think|thinking|reasoning)>.*?</\1>\s*", re.DOTALL | re.IGNORECASE)
_MARKS = r"[ \t#*_>【】\[\]]*"


def _heading(names: str) -> re.Pattern[str]:
    """A heading at the start of a line, closed by a colon or by its marks, or alone on its line."""
    return re.compile(
        rf"^{_MARKS}(?:{names}){_MARKS}[:：]{_MARKS}"
        rf"|^[ \t]*[#*【\[]+[ \t]*(?:{names})[ \t]*[:：]?[ \t]*[#*】\]]*[ \t]*(?:\n|$)"
        rf"|^[ \t]*(?:{names})[ \t]*\n",
        re.IGNORECASE | re.MULTILINE,
    )


_CRITIQUE = _heading(r"(?:the[ \t]+|my[ \t]+)?critique|批评(?:意见)?|评论|意见")
_REVISION = _heading(
    r"(?:the[ \t]+|my[ \t]+)?(?:(?:new|revised|rewritten|improved|final|updated)[ \t]+"
    r"(?:answer|response|version|reply)|revision|revised)"
    r"|(?:新的?|修改后的?|改写后的?|修订后的?|改进后的?|最终的?)(?:回答|答案|回复|版本)|修改|修订"
)
_OPENING = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[ ,.!]*)?"
    r"here(?:['’]s| is)\b[^\n:]{0,40}\b(?:answer|response|version|revision|reply|critique)\b"
    r"[^\n:]{0,60}:\s*"
    r"|^(?:好的?|当然(?:可以)?|没问题)?[，,。！!：: ]*(?:以下|下面|这)(?:就?是)[^\n：:。]{0,24}"
    r"(?:回答|答案|回复|版本|批评|意见)[^\n：:。]{0,12}[：:]\s*",
    re.IGNORECASE,
)
_FENCED = re.compile(r"^(`{3,}|~{3,})[^\n`]*\n(.*?)\n?\1$", re.DOTALL)


def critique_prompt(question: str, answer: str, principle: Principle, language: Language) -> str:
    """Ask what is wrong with an answer by a principle."""
    values = {"question": question, "answer": answer, "request": principle.critique}
    return fill(template("critique", language), values)


def revision_prompt(
    question: str, answer: str, critique: str, principle: Principle, language: Language
) -> str:
    """Ask for the answer without what the critique names."""
    values = {
        "question": question,
        "answer": answer,
        "critique": critique,
        "request": principle.revision,
    }
    return fill(template("revision", language), values)


def principle_prompt(
    question: str, first: str, second: str, principle: Principle, language: Language
) -> str:
    """Ask which of two answers follows a principle more closely; the verdict is read as any
    pairwise one."""
    values = {
        "principle": principle.principle.strip() or principle.critique,
        "question": question,
        "first": first,
        "second": second,
    }
    return fill(template("principle", language), values)


def parse_critique(text: str) -> str:
    """The critique in a reply: without a heading, and without a new answer that follows it."""
    body = _THINKING.sub("", text).strip()
    body = _after(_CRITIQUE, body)
    revision = _REVISION.search(body)
    if revision is not None and revision.start() > 0:
        body = body[: revision.start()]
    return _bare(body)


def parse_revision(text: str) -> str:
    """The new answer in a reply: what follows the last heading of one; "" where there is none.

    Opening phrases, a code fence or quotes around the whole, and thoughts are left out. A reply
    that begins with a critique and has no heading of a new answer is no answer.
    """
    body = _THINKING.sub("", text).strip()
    headings = list(_REVISION.finditer(body))
    if headings:
        return _bare(body[headings[-1].end() :])
    opening = _CRITIQUE.match(body)
    return "" if opening is not None else _bare(body)


def _after(heading: re.Pattern[str], text: str) -> str:
    """What follows a heading that opens the text."""
    found = heading.match(text)
    return text if found is None else text[found.end() :]


def _bare(text: str) -> str:
    body = text.strip()
    while True:
        inner = _unwrapped(_OPENING.sub("", body, count=1).strip())
        if inner == body:
            return body
        body = inner


def _unwrapped(text: str) -> str:
    fenced = _FENCED.match(text)
    if fenced and fenced[1] not in fenced[2] and "\n" not in text[: text.find("\n")]:
        first = text[: text.find("\n")].strip("`~ ")
        # A fence that names a language holds code: it belongs to the answer.
        return fenced[2].strip() if first in ("", "text", "markdown", "md") else text
    if len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        return text[1:-1].strip()
    return text
