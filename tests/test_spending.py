"""A budget that holds, over processes; costs that the journals prove."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply, script

from espalier.engines import open_engine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling, Usage
from espalier.engines.metered import MeteredEngine
from espalier.errors import UsageError
from espalier.journal import Journal, JournaledEngine
from espalier.records import Message
from espalier.spending import (
    Budget,
    BudgetReached,
    Estimate,
    Meter,
    Prices,
    amount,
    estimate_table,
    estimated_money,
    likely_tokens,
    most_tokens,
)

PRICES = Prices(prompt=1.0, completion=3.0)
# What one request of `ask` costs at most: 10 bytes, 16 for its turn, 100 tokens.
WORST_TOKENS = 126
WORST = PRICES.money(26, 100)


def spec(url: str = "http://localhost:1/v1", **more: Any) -> EngineSpec:
    more = {"prices": PRICES, "concurrency": 4, **more}
    return EngineSpec(
        engine="openai",
        model="m",
        base_url=url,
        api_key_env="NO_KEY",
        options={"backoff_seconds": 0.01},
        **more,
    )


def ask(
    server: FakeServer, run: Path, meter: Meter, count: int = 10, step: str = "write", **more: Any
) -> list[Completion]:
    journal = run / "curate" / "journal" / "teacher.jsonl"
    engine = open_engine(spec(server.url, **more), journal=journal, meter=meter, step=step)
    with closing(engine):
        asked = [Request.of(f"question {i}") for i in range(count)]
        return list(engine.generate(asked, Sampling(max_tokens=100)))


def meter_of(run: Path, **budget: Any) -> Meter:
    return Meter.of_run(run, Budget(**budget), [spec()])


def test_prices_by_hand() -> None:
    assert PRICES.money(2_000_000, 1_000_000) == 5.0
    assert PRICES.money(2_000_000, 1_000_000, batch=True) == 2.5
    assert Prices(prompt=1, completion=1, batch_discount=0).money(10**6, 0, batch=True) == 1.0


@pytest.mark.parametrize("budget", [{"money": 5 * WORST}, {"tokens": 630}, {"requests": 5}])
def test_never_more_is_spent_than_the_budget_and_the_next_run_goes_on(
    tmp_path: Path, budget: dict[str, float]
) -> None:
    with FakeServer(lambda number, body: Reply(delay=0.02)) as server:
        # Every answer costs what it may cost at most.
        server.usage = {"prompt_tokens": 26, "completion_tokens": 100}
        meter = meter_of(tmp_path, **budget)
        with pytest.raises(BudgetReached) as caught:
            ask(server, tmp_path, meter)
        assert sum(server.asked.values()) == sum(server.answered.values()) == 5
        assert meter.spent.requests == 5
        text = str(caught.value)
        assert "write with m: 5 requests, 630 tokens" in text
        assert "5 of the 10 requests" in text
        assert f"budget.{next(iter(budget))}" in text
        # The same budget again: nothing is asked, and the message is the same.
        with pytest.raises(BudgetReached) as again:
            ask(server, tmp_path, meter_of(tmp_path, **budget))
        assert sum(server.asked.values()) == 5
        assert again.value.what == caught.value.what
        # Twice the budget: only what is missing is asked.
        more = {name: 2 * value for name, value in budget.items()}
        answers = ask(server, tmp_path, meter_of(tmp_path, **more))
        assert len(answers) == 10
        assert max(server.asked.values()) == 1


def test_what_turns_out_cheaper_leaves_room_for_more(tmp_path: Path) -> None:
    # The worst case of four at once does not fit, that of one does, and answers are cheap.
    with FakeServer() as server:
        server.usage = {"prompt_tokens": 6, "completion_tokens": 4}
        meter = meter_of(tmp_path, tokens=WORST_TOKENS + 90)
        assert len(ask(server, tmp_path, meter)) == 10
        assert meter.spent.tokens == 100
        with pytest.raises(BudgetReached):
            ask(server, tmp_path, meter_of(tmp_path, tokens=216), 20)
        # At 100 + 10 n tokens spent, one more is sent while 126 more fit into 216.
        assert sum(server.asked.values()) == 10


def test_failed_attempts_that_were_billed_count_in_later_processes(tmp_path: Path) -> None:
    empty = Reply(body=b'{"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 9}}')
    filtered = Reply(finish_reason="content_filter")
    with FakeServer(script([empty, filtered])) as server:
        meter = meter_of(tmp_path)
        answers = ask(server, tmp_path, meter, 3, concurrency=1)
    assert [a.finish_reason for a in answers] == ["error", "stop", "stop"]
    expected = totals_of(prompt=50 + 3 * 7, completion=9 + 3 * 5, requests=4)
    assert totals(meter) == expected
    assert totals(meter_of(tmp_path)) == expected
    with Journal(tmp_path / "curate/journal/teacher.jsonl") as journal:
        assert len(journal) == 3
        assert journal.damaged == 0


def totals_of(prompt: int, completion: int, requests: int) -> tuple[int, int, int]:
    return prompt, completion, requests


def totals(meter: Meter) -> tuple[int, int, int]:
    rows = meter.summary()
    return (
        sum(row["prompt_tokens"] for row in rows),
        sum(row["completion_tokens"] for row in rows),
        sum(row["requests"] for row in rows),
    )


def test_the_summary_by_step_and_model_is_the_same_in_a_later_process(tmp_path: Path) -> None:
    with FakeServer() as server:
        meter = meter_of(tmp_path)
        ask(server, tmp_path, meter, 4, step="write")
        ask(server, tmp_path, meter, 7, step="judge")
        ask(server, tmp_path, meter, 7, step="judge")
    assert meter.summary() == [
        row("judge", requests=3, from_journal=0),
        row("write", requests=4, from_journal=0),
    ]
    later = meter_of(tmp_path)
    assert later.summary() == [
        row("judge", requests=3, from_journal=3),
        row("write", requests=4, from_journal=4),
    ]
    assert later.spent == meter.spent


def row(step: str, requests: int, from_journal: int) -> dict[str, Any]:
    return {
        "step": step,
        "model": "m",
        "requests": requests,
        "prompt_tokens": 7 * requests,
        "completion_tokens": 5 * requests,
        "money": pytest.approx(PRICES.money(7 * requests, 5 * requests)),
        "currency": "USD",
        "from_journal": from_journal,
    }


def test_a_server_that_tells_no_usage_is_counted_by_length(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.usage = None
        meter = meter_of(tmp_path)
        answers = ask(server, tmp_path, meter, 3)
    prompt, completion, _ = totals(meter)
    assert prompt == 3 * likely_tokens("question 0")
    assert completion == sum(likely_tokens(answer.text) for answer in answers)
    assert totals(meter_of(tmp_path)) == totals(meter)


def test_torn_and_old_lines_of_journals(tmp_path: Path) -> None:
    journal = tmp_path / "curate" / "journal" / "teacher.jsonl"
    journal.parent.mkdir(parents=True)
    usage = {"prompt_tokens": 10, "completion_tokens": 20}
    old = {"key": "a", "model": "m", "text": "x", "usage": usage}
    lines = [json.dumps(old), json.dumps(old), '{"key": "b", "model": "m", "te']
    journal.write_text("\n".join(lines))
    (tmp_path / "curate" / "train.jsonl").write_text(json.dumps({"key": "c", "model": "m"}))
    meter = meter_of(tmp_path)
    assert totals(meter) == (10, 20, 1)
    assert meter.summary()[0]["step"] == ""
    assert meter_of(tmp_path / "absent").summary() == []


def test_money_needs_prices_in_one_currency() -> None:
    meter = Meter(Budget(money=1))
    with pytest.raises(UsageError, match="has no prices") as caught:
        meter.account("s", spec(prices=None))
    assert caught.value.where == "prices"
    meter.account("s", spec())
    meter.account("s", EngineSpec())  # what runs here costs nothing
    other = spec(prices=Prices(prompt=1, completion=1, currency="CNY"))
    with pytest.raises(UsageError, match="CNY"):
        meter.account("s", other)


class Local:
    """An engine of this machine that notes how much it is handed at once."""

    model = "local"
    costly = False
    secret = 7

    def __init__(self) -> None:
        self.portions: list[int] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        self.portions.append(len(requests))
        for request in requests:
            yield Completion(request.prompt, usage=Usage(10, 30))

    def close(self) -> None:
        pass


def local(budget: Budget, count: int) -> tuple[Local, Meter, list[str]]:
    inner = Local()
    meter = Meter(budget)
    engine = MeteredEngine(inner, meter.account("s", EngineSpec(engine="transformers")))
    assert engine.secret == 7
    asked = [Request.of(f"question {i}") for i in range(count)]
    texts = []
    try:
        for completion in engine.generate(asked, Sampling(max_tokens=100)):
            texts.append(completion.text)
    except BudgetReached:
        texts.append("budget reached")
    return inner, meter, texts


def test_a_local_engine_is_counted_and_only_limited_when_asked() -> None:
    expected = [f"question {i}" for i in range(6)]
    inner, meter, texts = local(Budget(tokens=5), 6)
    assert texts == expected
    assert inner.portions == [6]
    assert meter.spent.tokens == 0
    assert meter.summary()[0]["completion_tokens"] == 180
    assert meter.summary()[0]["money"] == 0
    inner, meter, texts = local(Budget(tokens=2 * WORST_TOKENS, local=True), 6)
    # Two at their worst, then one more at a time while 40 each leaves room for a worst case.
    assert inner.portions == [2, 1, 1]
    assert texts == [*expected[:4], "budget reached"]
    assert meter.spent.tokens == 160
    assert not meter.waiting


def test_a_local_engine_that_answers_in_any_order_is_counted_as_well(tmp_path: Path) -> None:
    class Unordered(Local):
        def generate_unordered(self, requests: Any, sampling: Any, arrived: Any) -> Iterator[Any]:
            for index in reversed(range(len(requests))):
                completion = Completion(requests[index].prompt, usage=Usage(10, 30))
                arrived(index, completion)
                yield index, completion

    meter = Meter()
    account = meter.account("s", EngineSpec(engine="vllm-server"))
    engine = JournaledEngine(MeteredEngine(Unordered(), account), Journal(tmp_path / "j.jsonl"))
    asked = [Request.of(f"question {i}") for i in range(5)]
    texts = [completion.text for completion in engine.generate(asked, Sampling())]
    engine.close()
    assert texts == [f"question {i}" for i in range(5)]
    assert meter.summary()[0]["requests"] == 5
    assert not meter.waiting


@pytest.mark.parametrize("count_local", [False, True])
def test_the_offline_engine_counts_only_when_asked(count_local: bool) -> None:
    asked = [Request.of("Name a colour.")]
    plain = list(open_engine(EngineSpec()).generate(asked, Sampling()))
    meter = Meter(Budget(local=count_local))
    metered = list(open_engine(EngineSpec(), meter=meter, step="s").generate(asked, Sampling()))
    assert plain == metered
    assert len(meter.summary()) == count_local


def test_reservations_of_many_threads_never_pass_the_budget() -> None:
    meter = Meter(Budget(tokens=10_000))
    account = meter.account("s", spec())
    most: list[int] = []

    def work(number: int) -> None:
        for i in range(300):
            if account.reserve(20, 30):
                most.append(meter._total(reserved=True).tokens)
                if (number + i) % 3:
                    account.settle(20, 30, Usage(15, 10))
                else:
                    account.release(20, 30)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = meter.spent
    assert max(most) <= 10_000
    assert spent.tokens == 25 * spent.requests
    # As long as a worst case fits, it is taken.
    assert spent.tokens > 10_000 - 50
    assert not meter.waiting


def test_no_text_has_more_tokens_than_its_upper_bound() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    # A byte-level vocabulary of single bytes is the longest way to write a text.
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, [])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    for text in ("", "hello world", "你好，世界", "a🙂\n\t", "\ud800"):
        clean = text.encode(errors="replace").decode()
        assert len(fast(clean)["input_ids"]) <= most_tokens((Message("user", text),))


def test_notes_and_amounts() -> None:
    meter = Meter(Budget(money=5.0))
    account = meter.account("s", spec())
    assert meter.note() == "$0.00 of $5.00"
    account.charge(Usage(900_000, 300_000))
    assert meter.note() == "$1.80 of $5.00, 1.2 M tokens"
    assert Meter().note() == ""
    assert Meter(Budget(requests=1200)).note() == "0 of 1,200 requests"
    assert Meter(Budget(tokens=2_000_000)).note() == "0 of 2.0 M tokens"
    assert amount(1234.5, "EUR") == "€1,234.50"
    assert amount(0.00042, "SEK") == "0.0004 SEK"


def test_estimates() -> None:
    estimates = [
        Estimate("write", "m", 1000, 2_000_000, 1_000_000),
        Estimate("judge", "n", 10, 500, 100),
    ]
    assert estimated_money(estimates, {"m": PRICES}) == 5.0
    table = estimate_table(estimates, {"m": PRICES}).splitlines()
    costs = [line.split("  ")[-1].strip() for line in table]
    assert costs == ["cost", "$5.00", "-", "$5.00 + unpriced"]
    assert len({len(line) for line in table}) == 1
    assert "3.0 M" in table[1]
    # What nobody knows is not nothing.
    assert estimate_table(estimates, {}).splitlines()[-1].split()[-1] == "-"
    assert estimate_table(estimates[:1], {"m": PRICES}).splitlines()[-1].endswith(" $5.00")
