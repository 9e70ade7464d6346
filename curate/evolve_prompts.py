"""The prompts of Evol-Instruct, and tolerant readers of what is answered."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from espalier.curate.asking import fill, template
from espalier.curate.config_evolve import EvolveConfig, InputFormat, Operator
from espalier.curate.options import Language

_FORMAT_NAMES: Mapping[Language, Mapping[InputFormat, str]] = {
    "en": {
        "xml": "XML data", "sql": "SQL tables", "python": "Python code", "html": "an HTML page",
        "shell": "shell commands", "json": "JSON data",
    },
    "zh": {
        "xml": "XML数据", "sql": "SQL数据表", "python": "Python代码", "html": "HTML网页",
        "shell": "shell命令", "json": "JSON数据",
    },
}  # fmt: skip


def evolve_prompt(
    instruction: str,
    operator: Operator,
    language: Language,
    config: EvolveConfig,
    input_format: InputFormat = "json",
) -> str:
    """Ask for a version of an instruction that is harder (in depth) or rarer (in breadth).

    `input_format` matters to the operator `complicate_input` alone.
    """
    if operator == "breadth":
        return fill(template("evolve_breadth", language), {"instruction": instruction})
    how = template(f"evolve_{operator}", language)
    if operator == "complicate_input":
        before, _, after = template(f"evolve_input_{input_format}", language).partition("\n")
        name = _FORMAT_NAMES[language][input_format]
        how = fill(how, {"format": name, "before": before, "after": after})
    values = {
        "how": how,
        "low": str(config.min_added_words),
        "high": str(config.max_added_words),
        "instruction": instruction,
    }
    return fill(template("evolve_depth", language), values)


def equality_prompt(first: str, second: str, language: Language) -> str:
    """Ask whether two instructions are equal."""
    return fill(template("evolve_equal", language), {"first": first, "second": second})


# --- reading an evolved instruction ----------------------------------------------------------

_MARKS = r"[ \t#*_>【】\[\]]*"
_NAMES = (
    r"(?:the[ \t]+)?(?:rewritten|created|evolved|new|revised)[ \t]+"
    r"(?:prompt|instruction|version|question)"
    r"|(?:改写后?|新写|重写后?|改编后?|新|最终)的?(?:指令|提示词?|问题|题目|版本)"
)
# A heading stands at the start of a line and is closed by a colon or by its marks.
_HEADING = re.compile(
    rf"^{_MARKS}(?:{_NAMES}){_MARKS}[:：]{_MARKS}"
    rf"|^[ \t]*[#*【\[]+[ \t]*(?:{_NAMES})[ \t]*(?:[#*】\]]+[ \t]*|$)",
    re.IGNORECASE | re.MULTILINE,
)
_OPENING = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely|yes)\b[ ,.!]*)?"
    r"here(?:['’]s| is| are)\b[^\n:]{0,60}\b(?:prompt|instruction|version|rewrite|"
    r"(?:new|rewritten|revised|evolved|harder|complex) (?:question|task))\b[^\n:]{0,40}:\s*"
    r"|^(?:sure|certainly|of course)[!.]\s*\n\s*"
    r"|^(?:好的?|当然(?:可以)?|没问题)?[，,。！!：: ]*(?:以下|下面|这)(?:就?是)?[^\n：:。]{0,24}"
    r"(?:指令|提示词?|版本|(?:新|改写后?)的?(?:问题|题目))[^\n：:。]{0,12}[：:]\s*"
    r"|^(?:好的|当然可以|没问题)[。！!]\s*\n\s*",
    re.IGNORECASE,
)
_FENCED = re.compile(r"^(`{3,}|~{3,})[^\n`]*\n(.*?)\n?\1$", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "「": "」", "『": "』", "'": "'", "‘": "’", "«": "»"}


def parse_rewrite(text: str) -> str:
    """The instruction in a reply to `evolve_prompt`; "" where there is none.

    Takes what follows the last heading that has something after it, and strips opening phrases,
    a code fence or quotes around the whole. What stands inside stays as it is.
    """
    body = _after_heading(text.strip())
    while True:
        bare = _unwrapped(_OPENING.sub("", body, count=1).strip())
        if bare == body:
            return body
        body = bare


def _after_heading(text: str) -> str:
    end = len(text)
    for heading in reversed(list(_HEADING.finditer(text))):
        after = text[heading.end() : end].strip()
        if after:
            return after
        end = heading.start()
    return text[:end].strip()


def _unwrapped(text: str) -> str:
    fenced = _FENCED.match(text)
    if fenced and fenced[1] not in fenced[2]:
        return fenced[2].strip()
    if text.startswith("**") and text.endswith("**") and "**" not in text[2:-2]:
        return text[2:-2].strip()
    close = _QUOTES.get(text[:1])
    inner = text[1:-1]
    if close and text.endswith(close) and len(text) > 2 and not {text[0], close} & set(inner):
        return inner.strip()
    return text


# --- reading a judgement of equality ---------------------------------------------------------

_NO_DIFFERENCE = re.compile(
    r"(?:\bnot|n't|\bno) (?:really |very |much |at all )?differen(?:t|ce)"
    r"|没有?(?:任何|什么|明显)?(?:的)?(?:不同|区别|差别)"
)
_DIFFERENT = re.compile(
    r"(?:\bnot\b|n't\b|\bnever\b|\bhardly\b|\bcannot\b) ?(?:\w+ ){0,4}?"
    r"(?:equal|the same|identical|equivalent)|\b(?:un|in)equal|\bdifferent\b|\bdiffers?\b"
    r"|不(?:是|太|完全|能算|算|属于)?(?:等同|相等|相同|一样|等价|同)|不等|并非|有(?:所)?(?:不同|区别|差别)"
    r"|^(?:no|否|不是)\b"
)
_EQUAL = re.compile(
    r"\bequal\b|\bthe same\b|\bidentical\b|\bequivalent\b|等同|相等|相同|一样|等价|^(?:yes|是)\b"
)
_VERDICT = re.compile(
    r"(?:verdict|judge?ment|answer|result|conclusion|结论|判断|结果|答案)"
    r" ?(?:is|was|为|是)? ?[:=\-]* ?(.+)"
)


# "Equal: no" and "相等吗？不" answer the question that they begin with.
_ASKED = re.compile(
    r"^(?P<claim>.*?\S) ?(?:[?:=→]+|[-=]+>|[-–—]+)[ ?:=]*"
    r"(?:(?P<yes>yes|yeah|yep|true|correct|y|1|是的?|对的?|正确|真)"
    r"|(?P<no>no|nope|false|incorrect|wrong|n|0|not(?: (?:at all|really|quite|exactly))?"
    r"|否|不是的?|并不是?|不对|不|错误?|假|没有))"
    r"(?=$| ?[,.;!。)}\]–—-]| (?:they|the|it|these|this|both|because|since)\b|[吧的啊]?$)"
)
_NAMED = re.compile(r"\bequal(?:ity)?\b|\bequivalence\b|\bsame\b|一致")


def parse_equality(text: str) -> bool | None:
    """Whether a reply to `equality_prompt` says "Equal"; None where it can't be told.

    A labelled verdict counts first ("Verdict: Equal"; the last one), then the first line, the
    last one, and the rest. In a line that names both, "not equal" counts; a line that is a
    question or a label ("Equal: no") says what its answer says.
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    plain = re.sub(r"[ \t]+", " ", re.sub(r"[*_`#~\"“”]+", "", plain))
    lines = [line.strip(" \t.。!,;:()[]【】'") for line in _joined(plain.split("\n"))]
    if not lines:
        return None
    labelled = [found[1] for line in lines if (found := _VERDICT.search(line))]
    for line in (*reversed(labelled), lines[0], lines[-1], *lines):
        said = _of_line(_NO_DIFFERENCE.sub("equal", line))
        if said is not None:
            return said
    return None


def _joined(lines: Sequence[str]) -> list[str]:
    """The lines that hold something; a question or label is one line with what follows it."""
    joined: list[str] = []
    for line in (line.strip() for line in lines):
        if line and joined and joined[-1].endswith(("?", ":")):
            joined[-1] += f" {line}"
        elif line:
            joined.append(line)
    return joined


def _of_line(line: str) -> bool | None:
    asked = _ASKED.match(line)
    if asked is not None:
        claim = _claimed(asked["claim"])
        if claim is None and _NAMED.search(asked["claim"]):
            claim = True
        if claim is not None:
            return claim == (asked["yes"] is not None)
    return _claimed(line)


def _claimed(text: str) -> bool | None:
    if _DIFFERENT.search(text):
        return False
    return True if _EQUAL.search(text) else None
