"""English and Chinese are equals: one suite of properties over both, and over mixed text."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from espalier.contamination import NearTexts, NgramIndex
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.config_filters import FilterConfig, PiiConfig
from espalier.curate.config_holdout import DecontaminateConfig, HoldoutConfig
from espalier.curate.contamination import EvaluationTexts
from espalier.curate.decontaminate import HeldOut
from espalier.curate.dedup import exact_dedup, prompt_key
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.pii import pii_step
from espalier.curate.pipeline import Ledger
from espalier.curate.terms import TermList
from espalier.languages import could_be, identify
from espalier.minhash import near_pairs
from espalier.overlap import NoveltyIndex, rouge_l, rouge_n
from espalier.records import Example, Message
from espalier.refusals import disclaimer, is_refusal
from espalier.text import language, length, ngrams, normalise, shingles, tokens


@dataclass(frozen=True)
class Script:
    """How a text is built from words in one language."""

    name: str
    words: tuple[str, ...]
    glue: str
    stop: str
    loud: str  # what only looks different: punctuation, width, case
    refusal: str
    disclaimer: str
    prompt: str
    answer: str

    def text(self, seed: str, count: int) -> str:
        """A random text of `count` words."""
        return self.glue.join(Random(f"{self.name} {seed}").choices(self.words, k=count))

    def changed(self, text: str) -> str:
        """The text with one word in the middle replaced by one that it has not."""
        words = tokens(text)
        middle = words[len(words) // 2]
        new = next(word for word in self.words if word not in words)
        at = text.index(middle, len(text) // 2 - len(middle))
        return text[:at] + new + text[at + len(middle) :]


ENGLISH = Script(
    "en",
    tuple(f"{a}{b}" for a in ("wind", "rain", "sun", "moon", "star", "tree", "leaf", "root",
                              "bird", "fish") for b in ("fall", "rise", "song", "light", "path",
                                                        "house", "stone", "field", "water",
                                                        "mark")),
    " ", ".", "!?",
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I have no home.",
    "Name three colours of the rainbow, please.", "Red, orange and yellow.",
)  # fmt: skip
CHINESE = Script(
    "zh",
    tuple(
        "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈"
        "剑号巨阙珠称夜光果珍李柰菜重芥姜海咸河淡鳞潜羽翔龙师火帝鸟官人皇始制文字乃服衣裳"
    ),
    "", "。", "！？",
    "抱歉，我无法回答这个问题。",
    "作为一个人工智能语言模型，我没有家。",
    "请说出彩虹的三种颜色。", "红色、橙色和黄色。",
)  # fmt: skip
MIXED = Script(
    "mixed",
    tuple(word for pair in zip(ENGLISH.words, CHINESE.words, strict=False) for word in pair),
    " ", "。", "！?",
    "Sorry, 抱歉，我无法回答这个问题。",
    "作为一个AI语言模型，我 have no home.",
    "请用 Python 说出彩虹的三种颜色。", "print('红色、橙色 and 黄色')",
)  # fmt: skip
SCRIPTS = [ENGLISH, CHINESE, MIXED]
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def deduplicated(*rows: Example) -> int:
    ledger = Ledger("test", io.StringIO())
    return len(list(ledger.through(rows, [("exact", exact_dedup(DedupConfig()))])))


def rule_of(row: Example, **options: Any) -> str | None:
    config = FilterConfig(**options)
    handle = io.StringIO()
    rules = [*prompt_rules(config), *answer_rules(config)]
    list(Ledger("test", handle).through([row], [("rules", rule_step(rules))]))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    return rejects[0]["rule"] if rejects else None


# --- words ---


@every_script
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_a_word_is_a_character_of_chinese_and_a_word_elsewhere(script: Script, count: int) -> None:
    text = script.text("count", count)
    assert length(text) == count
    assert length(text + script.stop + script.loud) == count
    assert len(ngrams(tokens(text), 3)) == max(0, count - 2)
    assert len(shingles(text, 5)) <= max(1, count - 4)


def test_mixed_text_counts_both() -> None:
    assert tokens("用Python写3个函数") == ["用", "python", "写", "3", "个", "函", "数"]
    assert length(f"{ENGLISH.text('m', 9)}，{CHINESE.text('m', 11)}") == 20


@every_script
def test_punctuation_case_and_width_do_not_count(script: Script) -> None:
    text = script.text("punctuation", 20)
    loud = text.upper().translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
    assert tokens(loud) == tokens(text)
    assert normalise(loud + script.loud) == normalise(text + script.stop)


# --- a text is its own duplicate ---


@every_script
@pytest.mark.parametrize("count", [1, 4, 12, 60])
def test_a_text_is_its_own_exact_duplicate(script: Script, count: int) -> None:
    text = script.text("own", count)
    assert deduplicated(Example.single(text, "a"), Example.single(text + script.loud, "b")) == 1
    key = prompt_key((Message("user", text),))
    assert key == prompt_key((Message("user", f" {text}{script.stop} "),))


@every_script
@pytest.mark.parametrize("count", [1, 4, 12, 60])
def test_a_text_is_its_own_near_duplicate(script: Script, count: int) -> None:
    text = script.text("own", count)
    other = script.text("unrelated", count + 10)
    assert list(near_pairs([text, other, text + script.loud], threshold=0.7)) == [(0, 2, 1.0)]
    index = NearTexts(0.7, 5)
    index.add("it", text)
    assert index.matches(text + script.stop) == [("it", 1.0)]
    novelty = NoveltyIndex(0.7)
    novelty.add(tokens(text))
    assert novelty.nearest(tokens(text + script.loud)) == (0, 1.0)


@every_script
@pytest.mark.parametrize("count", [8, 13, 60])
def test_a_text_is_contaminated_by_itself(script: Script, count: int) -> None:
    text = script.text("own", count)
    index = NgramIndex()
    index.add("row", text)
    around = f"{script.text('before', 5)}{script.stop} {text}{script.loud}{script.text('after', 5)}"
    (span,) = index.spans(around)
    assert (span.key, span.longest, span.share) == ("row", count, 1.0)
    assert tokens(text)[0] == tokens(around[span.start : span.end])[0]
    assert index.spans(script.text("unrelated", 60)) == []


@every_script
def test_a_prompt_is_kept_away_from_the_evaluation(script: Script) -> None:
    held = HeldOut(HoldoutConfig())
    texts = EvaluationTexts(DecontaminateConfig(against=["x"]))
    for seed, count in (("short", 3), ("long", 40)):
        row = Example.single(script.text(seed, count), "a")
        held.add(row)
        texts.add(row, "x", 1)
        same = Example.single(script.text(seed, count) + script.loud, "b")
        verdict = held.verdict(same.prompt_messages)
        assert verdict is not None
        assert verdict[0] == "same_prompt_held_out"
        assert texts.findings(same)[0]["kind"] == "same_prompt"
    free = Example.single(script.text("unrelated", 40), "c")
    assert held.verdict(free.prompt_messages) is None
    assert texts.findings(free) == []


# --- one changed word in a long text ---


@every_script
def test_one_changed_word_is_near_and_not_equal(script: Script) -> None:
    text = script.text("long", 60)
    changed = script.changed(text)
    assert changed != text
    assert len(tokens(changed)) == 60
    # 56 n-grams of five words each; one word is in five of them.
    mine, other = shingles(text, 5), shingles(changed, 5)
    jaccard = len(mine & other) / len(mine | other)
    assert jaccard == pytest.approx(51 / 61, abs=0.03)
    assert deduplicated(Example.single(text, "a"), Example.single(changed, "b")) == 2
    assert [(i, j) for i, j, _ in near_pairs([text, changed], threshold=0.7)] == [(0, 1)]
    assert list(near_pairs([text, changed], threshold=0.95)) == []
    held = HeldOut(HoldoutConfig())
    held.add(Example.single(text, "a"))
    verdict = held.verdict((Message("user", changed),))
    assert verdict is not None
    assert verdict[0] == "near_held_out"
    novelty = NoveltyIndex(0.7)
    novelty.add(tokens(text))
    assert novelty.nearest(tokens(changed))[1] == pytest.approx(59 / 60)


@every_script
def test_one_changed_word_parts_a_shared_run(script: Script) -> None:
    text = script.text("long", 60)
    index = NgramIndex()
    index.add("row", text)
    first, second = index.spans(script.changed(text))
    assert (first.tokens, second.tokens) == (30, 29)
    # In fewer than thirteen words around the change nothing is left.
    index = NgramIndex()
    index.add("row", script.text("long", 21))
    assert index.spans(script.changed(script.text("long", 21))) == []


# --- unrelated texts ---


@every_script
def test_unrelated_texts_are_neither_near_nor_equal(script: Script) -> None:
    texts = [script.text(f"unrelated {i}", 40) for i in range(30)]
    assert list(near_pairs(texts, threshold=0.3)) == []
    assert deduplicated(*(Example.single(text, "a") for text in texts)) == 30
    novelty = NoveltyIndex(0.7)
    index = NgramIndex()
    for text in texts:
        assert novelty.nearest(tokens(text)) == (None, 0.0)
        assert index.spans(text) == []
        novelty.add(tokens(text))
        index.add(text, text)


@every_script
def test_overlap_scores_of_a_text_with_itself_and_with_others(script: Script) -> None:
    text, other = tokens(script.text("one", 40)), tokens(script.text("two", 40))
    assert rouge_l(text, text).f1 == 1.0
    assert rouge_n(text, text, 2).f1 == 1.0
    assert rouge_n(text, other, 2).f1 < 0.1


# --- filters ---


@every_script
def test_filters_fire_alike(script: Script) -> None:
    prompt, answer = script.prompt, script.answer
    few, many = script.text("few", 3), script.text("many", 50)
    cases: list[tuple[str, str, dict[str, Any], str | None]] = [
        (prompt, answer, {}, None),
        (prompt, "  ", {}, "empty_answer"),
        ("  ", answer, {}, "empty_prompt"),
        (script.loud, answer, {}, "short_prompt"),
        (prompt, script.refusal, {}, "refusal"),
        (prompt, script.refusal, {"refusals": False}, None),
        (prompt, f"{many}{script.stop} {script.disclaimer}", {"disclaimers": True}, "disclaimer"),
        (prompt, answer, {"disclaimers": True}, None),
        (prompt, prompt.rstrip("。."), {}, "copy"),
        (prompt, f"{few}：", {}, "cut_off"),
        (prompt, f"{few}\ufffd", {}, "broken_text"),
        (prompt, script.glue.join([few] * 20), {}, "repetition"),
        (prompt, many, {}, None),
        (prompt, script.glue.join([few] * 20), {"repetition": None, "repeats": {"gopher": True}},
         "repeats"),
        (prompt, many, {"repeats": {"gopher": True}}, None),
        (few, answer, {"min_prompt_words": 4}, "short_prompt"),
        (few, answer, {"max_prompt_words": 2}, "long_prompt"),
        (prompt, few, {"min_answer_words": 4}, "short_answer"),
        (prompt, few, {"max_answer_words": 2}, "long_answer"),
        (prompt, many, {"max_turn_words": 49}, "long_turn"),
        (prompt, many, {"max_dialogue_words": 52}, "long_dialogue"),
        (prompt, answer, {"languages": ["de", "ja"]}, "language"),
        (prompt, answer, {"languages": ["en", "zh"]}, None),
        (prompt, "###%%%@@@" + few, {"max_symbols": 0.2}, "symbols"),
        (prompt, many, {"max_symbols": 0.05}, None),
    ]  # fmt: skip
    for given, said, options, rule in cases:
        assert rule_of(Example.single(given, said), **options) == rule, (given, said, options)


@every_script
def test_refusals_and_disclaimers(script: Script) -> None:
    assert is_refusal(script.refusal)
    assert not is_refusal(script.answer)
    assert disclaimer(script.disclaimer)
    assert disclaimer(script.answer) is None


@every_script
def test_languages_are_told(script: Script) -> None:
    found = identify(script.prompt)
    expected = "zh" if script is MIXED else script.name
    assert language(script.prompt) == expected
    assert could_be(found, [expected])
    assert not could_be(found, ["ja", "ko", "ru"])


@every_script
def test_terms_are_found_as_words(script: Script) -> None:
    term = script.words[7]
    listed = TermList({"x": [term]})
    before, after = script.words[3], script.words[5]
    assert listed.hits(f"{before}{script.glue}{term}{script.glue}{after}")
    assert not listed.hits(f"{before}{script.glue}{after}")
    # Only where words are written apart can one hide in another.
    hidden = listed.hits(f"{before}{term}")
    assert bool(hidden) == (script is not ENGLISH)


@pytest.mark.parametrize(
    ("language_", "text"),
    [
        ("en", "Write to {} or call (650) 253-0000, card 4111 1111 1111 1111."),
        ("zh", "请发邮件到{}，或致电13800138000，卡号4111 1111 1111 1111。"),
        ("zh", "请 email {}，电话 138-0013-8000，card 4111111111111111"),
    ],
)
def test_personal_data_is_masked_alike(language_: str, text: str) -> None:
    row = Example.single(text.format("jane@mail.example.org"), "OK", meta={"language": language_})
    ledger = Ledger("test", io.StringIO())
    (fixed,) = ledger.through([row], [("pii", pii_step(PiiConfig()))])
    assert fixed.meta["pii"] == {"card": 1, "email": 1, "phone": 1}
    assert not any(char.isdigit() for char in fixed.prompt)
    assert not any(char == "@" for char in fixed.prompt)
