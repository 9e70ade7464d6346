"""The rules on single rows: what each takes, and what it has to leave."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from espalier.curate.config_filters import FilterConfig
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.pipeline import Ledger
from espalier.curate.repetition import repeated_ngrams, repeated_parts, top_ngram
from espalier.records import Example, Message
from espalier.text import tokens


def rule_of(row: Example, config: FilterConfig | None = None) -> str | None:
    """The rule that takes a row, None when it passes."""
    config = config or FilterConfig()
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    rules = [*prompt_rules(config), *answer_rules(config)]
    kept = list(ledger.through([row], [("rules", rule_step(rules))]))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert len(kept) + len(rejects) == 1
    return rejects[0]["rule"] if rejects else None


@pytest.mark.parametrize(
    ("prompt", "answer", "rule"),
    [
        ("Name a colour.", "Red", None),
        ("说出一种颜色。", "红色", None),
        ("Rate this app: it is great", "★★★★★", None),
        ("  ", "Red", "empty_prompt"),
        ("?!", "What do you mean?", "short_prompt"),
        ("Name a colour.", " \n", "empty_answer"),
        ("Name a colour.", "name a colour", "copy"),
        ("说出一种颜色。", "说出一种颜色", "copy"),
        ("Name a colour.", "I'm sorry, but I can't help with that.", "refusal"),
        ("说出一种颜色。", "抱歉，我无法回答这个问题。", "refusal"),
        ("List three colours.", "Here are three colours:", "cut_off"),
        ("列出三种颜色。", "三种颜色如下：", "cut_off"),
        ("Name a colour.", "Re\ufffdd", "broken_text"),
        ("Name a \x07colour.", "Red", "broken_text"),
        ("Name a colour.", "\ud83d red", "broken_text"),
        ("Write on.", "word and word and " * 40, "repetition"),
        ("接着写。", "春天来了，" * 40, "repetition"),
        ("Count to three.", "one\ttwo\nthree", None),
    ],
)
def test_rules(prompt: str, answer: str, rule: str | None) -> None:
    assert rule_of(Example.single(prompt, answer)) == rule


def test_a_row_without_answer() -> None:
    assert rule_of(Example.single("Name a colour.")) == "no_answer"


def test_a_copied_input_counts_but_an_answer_that_holds_it_does_not() -> None:
    prompt = "Fix the grammar.\n\nHe go home every single day."
    row = Example.single(prompt, "Fix the grammar", meta={"input": "He go home every single day."})
    assert rule_of(row) == "copy"
    fixed = Example.single(prompt, "He goes home.", meta={"input": "He go home every single day."})
    assert rule_of(fixed) is None


@pytest.mark.parametrize(
    ("language", "word"), [("en", "word "), ("zh", "词")], ids=["English", "Chinese"]
)
def test_lengths_count_words_of_either_script(language: str, word: str) -> None:
    config = FilterConfig(
        min_prompt_words=3, max_prompt_words=10, min_answer_words=3, max_answer_words=10,
        copies=False, repetition=None,
    )  # fmt: skip
    good = word * 5
    assert rule_of(Example.single(good, good), config) is None
    assert rule_of(Example.single(word * 2, good), config) == "short_prompt"
    assert rule_of(Example.single(word * 11, good), config) == "long_prompt"
    assert rule_of(Example.single(good, word * 2), config) == "short_answer"
    assert rule_of(Example.single(good, word * 11), config) == "long_answer"
    # Punctuation is no word: these are ten words, however long the text.
    assert rule_of(Example.single(good, word * 10 + "!" * 200), config) is None
    assert rule_of(Example.single("!" * 500 + word * 5, good), config) is None


def test_dialogues_alternate() -> None:
    def dialogue(*roles: str) -> Example:
        return Example.make(Message(role, f"turn of the {role}") for role in roles)  # type: ignore[arg-type]

    assert rule_of(dialogue("system", "user", "assistant", "user", "assistant")) is None
    assert rule_of(dialogue("user", "user", "assistant")) == "turn_order"
    assert rule_of(dialogue("assistant", "user", "assistant")) == "turn_order"
    assert rule_of(dialogue("user", "system", "assistant")) == "turn_order"
    off = FilterConfig(turn_order=False)
    assert rule_of(dialogue("user", "user", "assistant"), off) is None


def test_rules_can_be_switched_off() -> None:
    off = FilterConfig(
        refusals=False, copies=False, cut_off=False, broken_text=False, repetition=None,
        min_prompt_words=None, max_prompt_words=None, max_answer_words=None,
    )  # fmt: skip
    for answer in ("I'm sorry, but I can't help with that.", "Name a colour.", "So:", "a\x07"):
        assert rule_of(Example.single("Name a colour.", answer), off) is None
    assert rule_of(Example.single("Name a colour.", ""), off) == "empty_answer"


def alone(**options: Any) -> FilterConfig:
    """Only the rules that are given."""
    off: dict[str, Any] = {
        "refusals": False, "copies": False, "cut_off": False, "broken_text": False,
        "repetition": None, "turn_order": False, "min_prompt_words": None,
        "max_prompt_words": None, "max_answer_words": None,
    }  # fmt: skip
    return FilterConfig(**{**off, **options})


def evidence_of(row: Example, config: FilterConfig) -> str:
    handle = io.StringIO()
    rules = [*prompt_rules(config), *answer_rules(config)]
    list(Ledger("test", handle).through([row], [("rules", rule_step(rules))]))
    return str(json.loads(handle.getvalue())["evidence"])


@pytest.mark.parametrize(("language", "word"), [("en", "word "), ("zh", "词")])
def test_lengths_of_turns_and_dialogues(language: str, word: str) -> None:
    def dialogue(*sizes: int) -> Example:
        roles = ("user", "assistant")
        turns = [Message(roles[i % 2], word * size) for i, size in enumerate(sizes)]  # type: ignore[arg-type]
        return Example.make([Message("system", word * 50), *turns])

    row = dialogue(5, 3, 8, 4)
    for name, limits, rule in (
        ("min_turn_words", (3, 4), "short_turn"),
        ("max_turn_words", (8, 7), "long_turn"),
        ("min_dialogue_words", (20, 21), "short_dialogue"),
        ("max_dialogue_words", (20, 19), "long_dialogue"),
        ("max_turns", (4, 3), "many_turns"),
    ):
        good, bad = limits
        assert rule_of(row, alone(**{name: good})) is None
        assert rule_of(row, alone(**{name: bad})) == rule
    assert evidence_of(row, alone(max_turn_words=7)) == "turn 4 (user): 8 words, at most 7 wanted"


@pytest.mark.parametrize(
    ("prompt", "answer", "languages", "rule"),
    [
        ("Name a colour of the rainbow, please.", "Red", ["en", "zh"], None),
        ("说出一种颜色。", "红色", ["en", "zh"], None),
        ("说出一种颜色。", "红色", ["en"], "language"),
        ("Name a colour of the rainbow, please.", "紫色是彩虹的颜色之一。", ["en"], "language"),
        ("Nenne mir bitte eine Farbe des Regenbogens.", "Rot", ["en", "zh"], "language"),
        ("Nenne mir bitte eine Farbe des Regenbogens.", "Rot", ["de"], None),
        ("Назови один из цветов радуги.", "Красный", ["en", "zh"], "language"),
        ("What is 3 + 4?", "7", ["en"], None),
    ],
)
def test_languages(prompt: str, answer: str, languages: list[str], rule: str | None) -> None:
    assert rule_of(Example.single(prompt, answer), alone(languages=languages)) == rule


def test_languages_of_translations() -> None:
    french = "La maison est située près de la rivière et du vieux moulin."
    english = "The house is near the river and the old mill."
    row = Example.single(f"Translate into English.\n\n{french}", english, meta={"input": french})
    assert rule_of(row, alone(languages=["en"])) is None
    back = Example.single(f"Translate into French: {english}", french)
    assert rule_of(back, alone(languages=["en"])) == "language"
    assert rule_of(back, alone(languages=["en"], language_fields="prompt")) is None
    assert "the answer is in 'fr'" in evidence_of(back, alone(languages=["en"]))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Paris. As an AI language model, I have never been there.", True),
        ("I'm just an AI, but I like blue.", True),
        ("巴黎。作为一个人工智能语言模型，我没有去过那里。", True),
        ("我是一名智能助手，很高兴为您服务。巴黎。", True),
        ("The field of AI began as an academic discipline in 1956.", False),
        ("She works as an AI researcher in Paris.", False),
        ("He serves as an assistant professor.", False),
        ("人工智能语言模型根据上文预测下一个词。", False),
        ("作为人工智能领域的专家，她常去巴黎。", False),
        ("作为人工智能研究的一部分，图灵提出了一个测试。", False),
    ],
)
def test_disclaimers(answer: str, said: bool) -> None:
    row = Example.single("Tell me something.", answer)
    expected = "disclaimer" if said else None
    assert rule_of(row, alone(disclaimers=True)) == expected
    assert rule_of(row, alone()) is None


@pytest.mark.parametrize(
    ("answer", "options", "rule"),
    [
        ("See https://example.org/page and www.example.org/other", {"max_links": 0.5}, "links"),
        ("See https://example.org", {"max_links": 0.9}, None),
        ("详情见https://example.org/页面，谢谢", {"max_links": 0.3}, "links"),
        ("<div><p>Hello</p></div>", {"max_html": 0.5}, "html"),
        ("If a < b and c > d then <p>", {"max_html": 0.5}, None),
        ("!!! *** ### $$$ %%% ok", {"max_symbols": 0.4}, "symbols"),
        ("★★★★★", {"max_symbols": 0.9}, "symbols"),
        ("“Well—yes,” she said; (at last)!", {"max_symbols": 0.05}, None),
        ("“好的，”她说；《红楼梦》是一部小说……", {"max_symbols": 0.05}, None),
        ("हिन्दी में लिखो", {"max_symbols": 0.05}, None),
        ("Itâ€™s a cafÃ©", {"mojibake": True}, "mojibake"),
        ("编码错了：锟斤拷锟斤拷", {"mojibake": True}, "mojibake"),
        ("It’s a café，你好。", {"mojibake": True}, None),
    ],
)
def test_symbols_links_html_and_mojibake(
    answer: str, options: dict[str, Any], rule: str | None
) -> None:
    row = Example.single("Say something.", answer)
    assert rule_of(row, alone(**options)) == rule
    assert rule_of(row, alone()) is None


# --- repeats ---

TEXTS = [
    "the cat sat on the mat. " * 8,
    "\n".join(["first line here"] * 3 + [f"line number {i} differs" for i in range(12)]),
    "one paragraph here\n\n" * 5 + " ".join(f"word{i}" for i in range(40)),
    " ".join(f"word{i % 17}" for i in range(60)),
    "春眠不觉晓，处处闻啼鸟。" * 4,
    "第一行\n第一行\n第二行\n" + "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳",
    " ".join(f"unique{i}" for i in range(50)),
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_repeats_by_naive_counting(text: str, n: int) -> None:
    words = tokens(text)
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    total = sum(len(word) for word in words)
    inside = set()
    for place, gram in enumerate(grams):
        if gram in grams[:place]:
            inside.update(range(place, place + n))
    assert repeated_ngrams(words, n) == pytest.approx(sum(len(words[i]) for i in inside) / total)
    most = max(grams.count(gram) for gram in grams)
    size = max(len("".join(gram)) for gram in grams if grams.count(gram) == most)
    expected = min(1.0, most * size / total) if most > 1 else 0.0
    assert top_ngram(words, n) == pytest.approx(expected)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    again = [line for place, line in enumerate(lines) if line in lines[:place]]
    shares = (len(again) / len(lines), sum(map(len, again)) / sum(map(len, lines)))
    assert repeated_parts(text.split("\n")) == pytest.approx(shares)


def test_published_limits_and_own_ones() -> None:
    def rule(text: str, **options: Any) -> str | None:
        return rule_of(Example.single("Write on.", text), alone(repeats=options))

    assert [rule(text, gopher=True) for text in TEXTS] == ["repeats"] * 6 + [None]
    assert [rule(text) for text in TEXTS] == [None] * 7
    assert rule(TEXTS[1], lines=0.1) == "repeats"
    assert rule(TEXTS[1], lines=0.2) is None
    assert rule(TEXTS[2], paragraphs=0.5) == "repeats"
    assert rule(TEXTS[3], ngrams={10: 0.5}) == "repeats"
    assert rule(TEXTS[3], top_ngrams={2: 0.01}) == "repeats"
    # Short answers say little twice.
    assert rule("yes\nyes\nyes\nyes", gopher=True) is None
    assert rule("哈" * 12, run=12) == "repeats"
    assert rule("Noooooooo!", run=8) == "repeats"
    assert rule("| a | b |\n|---------|---------|\n.........", run=8) is None
    text = evidence_of(Example.single("Go", TEXTS[0]), alone(repeats={"ngrams": {5: 0.15}}))
    assert text.endswith("of the characters are in repeated 5-grams, at most 15% wanted")
