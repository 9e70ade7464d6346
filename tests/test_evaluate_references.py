"""Reference metrics against sacrebleu and rouge_score, and on scripts that those misread."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from espalier.evaluate import references as ref
from espalier.evaluate.references import REFERENCE_METRICS, score_references

SENTENCES = {
    "en": "The quick brown fox jumps over the lazy dog while the sun is slowly setting.",
    "zh": "今天天气很好，我们一起去公园散步，然后在湖边吃午饭。",
    "ja": "今日はとても天気がいいので、公園へ散歩に行きましょう。",
    "ko": "오늘은 날씨가 매우 좋아서 우리는 함께 공원으로 산책을 갔습니다.",
    "th": "วันนี้อากาศดีมากเราจึงไปเดินเล่นที่สวนสาธารณะด้วยกัน",
}
TOKENIZERS = {"en": "13a", "zh": "zh", "ja": "char", "ko": "char", "th": "char"}


def english(seed: int, rows: int) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)
    words = "the cat, sat on (the) mat. it's 3.5 miles! Dr. Smith-Jones said: don't go there 42"
    pool = words.split()

    def text(low: int, high: int) -> str:
        return " ".join(generator.choices(pool, k=generator.randint(low, high)))

    references = [text(1, 30) for _ in range(rows)]
    answers = []
    for reference in references:
        kept = [
            w if generator.random() < 0.7 else generator.choice(pool) for w in reference.split()
        ]
        answers.append(generator.choice([" ".join(kept), text(0, 12), reference + " and more"]))
    return answers, references


def corpus(name: str, answers: list[str], references: list[str]) -> float:
    column = score_references(name, {"m": list(answers)}, list(references)).columns["m"]
    value = column.value()
    assert value is not None
    return value


def rows(name: str, answers: list[str], references: list[str]) -> list[float | None]:
    return score_references(name, {"m": list(answers)}, list(references)).rows["m"]


@pytest.mark.parametrize("seed", range(4))
def test_bleu_and_chrf_are_sacrebleus(seed: int) -> None:
    import sacrebleu

    answers, references = english(seed, 60)
    assert corpus("bleu", answers, references) == pytest.approx(
        sacrebleu.corpus_bleu(answers, [references]).score, abs=1e-10
    )
    assert corpus("chrf", answers, references) == pytest.approx(
        sacrebleu.corpus_chrf(answers, [references]).score, abs=1e-10
    )
    by_row = rows("bleu", answers, references)
    for value, answer, reference in zip(by_row, answers, references, strict=True):
        theirs = sacrebleu.sentence_bleu(answer, [reference], use_effective_order=True).score
        assert value == pytest.approx(theirs, abs=1e-10)
    for value, answer, reference in zip(
        rows("chrf", answers, references), answers, references, strict=True
    ):
        assert value == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score, abs=1e-10)


def test_bleu_smooths_as_sacrebleu_where_orders_have_no_match_or_no_ngram() -> None:
    import sacrebleu

    cases = [
        (["a b"], ["a b"]),
        (["a b c d e"], ["a x c y e"]),
        (["a b c d", "x"], ["a b q d", "y"]),
        (["", "q"], ["a b c d e", "z"]),
        (["a b c d e f"], ["a b c d e f g h i j"]),
    ]
    for answers, references in cases:
        theirs = sacrebleu.corpus_bleu(answers, [references]).score
        assert corpus("bleu", answers, references) == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize("language", SENTENCES)
def test_one_language_uses_sacrebleus_tokeniser_of_it(language: str) -> None:
    import sacrebleu

    pieces = SENTENCES[language]
    references = [pieces, pieces[: len(pieces) // 2] + pieces[len(pieces) // 3 :]]
    answers = [pieces[3:] + pieces[:3], pieces[: len(pieces) // 2]]
    theirs = sacrebleu.corpus_bleu(answers, [references], tokenize=TOKENIZERS[language]).score
    assert corpus("bleu", answers, references) == pytest.approx(theirs, abs=1e-10)
    signature = ref.corpus_metric("bleu", list(references)).signature
    assert f"tok:{TOKENIZERS[language]}|" in signature
    assert sacrebleu.__version__ in signature


@pytest.mark.parametrize("name", (*REFERENCE_METRICS, "rougeLsum"))
def test_identical_text_has_the_full_score_in_every_script(name: str) -> None:
    full = 100.0 if name in ("bleu", "chrf") else 1.0
    for text in SENTENCES.values():
        assert corpus(name, [text], [text]) == pytest.approx(full)
        assert rows(name, [text], [text]) == [pytest.approx(full)]
    texts = list(SENTENCES.values())
    assert corpus(name, texts, texts) == pytest.approx(full)


def test_unrelated_chinese_scores_near_nothing() -> None:
    answers = ["他昨天买了三本书。", "请打开窗户透透气。"]
    references = ["月亮绕着地球旋转。", "股票价格下跌明显！"]
    for name in (*REFERENCE_METRICS, "rougeLsum"):
        limit = 5.0 if name in ("bleu", "chrf") else 0.05
        assert corpus(name, answers, references) <= limit, name
    # Shared Latin letters must not be all that counts.
    mixed = rows("rougeL", ["他喜欢 Python 编程语言的简洁"], ["股票下跌 Python 明显走低了很多"])[0]
    assert mixed is not None and mixed < 0.15


def test_a_mixed_set_adds_the_statistics_of_each_rows_tokeniser() -> None:
    from sacrebleu.metrics import BLEU

    answers = [SENTENCES["en"][4:], SENTENCES["zh"][2:]]
    references = [SENTENCES["en"], SENTENCES["zh"]]
    parts = [
        BLEU(tokenize=name).corpus_score([answer], [[reference]])
        for name, answer, reference in zip(("13a", "zh"), answers, references, strict=True)
    ]
    expected = BLEU.compute_bleu(
        correct=[sum(p.counts[n] for p in parts) for n in range(4)],
        total=[sum(p.totals[n] for p in parts) for n in range(4)],
        sys_len=sum(p.sys_len for p in parts),
        ref_len=sum(p.ref_len for p in parts),
        smooth_method="exp",
    ).score
    assert corpus("bleu", answers, references) == pytest.approx(expected, abs=1e-10)
    assert "tok:13a(1)+zh(1)" in ref.corpus_metric("bleu", list(references)).signature


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_scores_on_english(name: str) -> None:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer([name])
    answers, references = english(9, 150)
    for value, answer, reference in zip(
        rows(name, answers, references), answers, references, strict=True
    ):
        assert value == pytest.approx(scorer.score(reference, answer)[name].fmeasure, abs=1e-12)


def test_ter_is_sacrebleus() -> None:
    import sacrebleu

    answers, references = english(3, 25)
    assert corpus("ter", answers, references) == pytest.approx(
        sacrebleu.corpus_ter(answers, [references]).score, abs=1e-10
    )
    for value, answer, reference in zip(
        rows("ter", answers, references), answers, references, strict=True
    ):
        assert value == pytest.approx(sacrebleu.sentence_ter(answer, [reference]).score, abs=1e-10)
    signature = ref.corpus_metric("ter", list(references)).signature
    assert "case:lc|tok:tercom|" in signature and sacrebleu.__version__ in signature


def test_ter_counts_characters_where_words_have_no_spaces() -> None:
    # Worked by hand: one of five characters replaced; one of four replaced, and Latin kept whole.
    assert corpus("ter", ["我爱吃苹果"], ["我爱吃苹國"]) == pytest.approx(20.0)
    assert corpus("ter", ["用Python写"], ["用Python看"]) == pytest.approx(100 / 3)
    assert corpus("ter", ["สวัสดี"], ["สวัสดา"]) == pytest.approx(100 / 6)
    for text in SENTENCES.values():
        assert corpus("ter", [text], [text]) == 0.0
    assert corpus("ter", ["他昨天买了书"], ["月亮绕着地球转"]) == pytest.approx(100.0)
    assert corpus("ter", ["", "a b c"], ["a b", "a b c"]) == pytest.approx(40.0)


def test_rouge_lsum_is_rouge_scores_on_english() -> None:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeLsum"])
    answers, references = ([text.replace(". ", ".\n") for text in side] for side in english(5, 80))
    for value, answer, reference in zip(
        rows("rougeLsum", answers, references), answers, references, strict=True
    ):
        assert value == pytest.approx(scorer.score(reference, answer)["rougeLsum"].fmeasure, abs=0)


def test_token_f1_is_squads_on_english() -> None:
    # Worked by hand: articles and punctuation dropped, bags compared.
    assert ref.token_f1("The cat sat.", "a cat sat!") == 1.0
    assert ref.token_f1("cat cat dog", "cat bird") == pytest.approx(2 * (1 / 3) * (1 / 2) / (5 / 6))
    assert ref.token_f1("", "cat") == 0.0
    assert ref.token_f1("?!", "?!") == 1.0
    assert ref.token_f1("?!", "...") == 0.0
    assert ref.token_f1("the", "a") == 0.0


def test_exact_match_strips_outer_space_only() -> None:
    assert ref.exact_match(" 42\n", "42") == 1.0
    assert ref.exact_match("Paris", "paris") == 0.0
    assert ref.exact_match("a  b", "a b") == 0.0


def test_rows_without_answer_or_reference_have_no_value() -> None:
    answers = ["a b c d", None, "", "x"]
    references = ["a b c d", "a", "b", None]
    for name in REFERENCE_METRICS:
        scored = score_references(name, {"m": answers}, references)
        assert scored.columns["m"].n == 2, name
        assert scored.rows["m"][1] is None and scored.rows["m"][3] is None
        assert scored.rows["m"][2] == 0.0


def test_a_hundred_thousand_characters_are_scored() -> None:
    long = "word and then 字 " * 8000
    for name in (*REFERENCE_METRICS, "rougeLsum"):
        value = corpus(name, [long, "yes"], ["a word", "yes"])
        assert 0 <= value <= 100


def test_published_predictions_agree_with_the_peers(shared_data: Path) -> None:
    import sacrebleu
    from rouge_score import rouge_scorer

    folder = shared_data / "self_instruct" / "predictions"
    lines = (folder / "text-davinci-001_predictions.jsonl").read_text("utf-8").splitlines()[:80]
    records = [json.loads(line) for line in lines]
    answers = [record["response"] for record in records]
    references = [record["target"] for record in records]
    assert corpus("bleu", answers, references) == pytest.approx(
        sacrebleu.corpus_bleu(answers, [references]).score, abs=1e-10
    )
    assert corpus("chrf", answers, references) == pytest.approx(
        sacrebleu.corpus_chrf(answers, [references]).score, abs=1e-10
    )
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    compared = 0
    for index, (answer, reference) in enumerate(zip(answers, references, strict=True)):
        if not (answer + reference).isascii():
            continue
        compared += 1
        theirs = scorer.score(reference, answer)
        for name in ("rouge1", "rouge2", "rougeL"):
            ours = rows(name, [answer], [reference])[0]
            assert ours == pytest.approx(theirs[name].fmeasure, abs=1e-12), index
    assert compared > 60
