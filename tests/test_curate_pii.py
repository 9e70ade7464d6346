"""Personal data is found by checked forms, masked without a trace, and ordinary numbers stay."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.curate.config_filters import PiiConfig
from espalier.curate.pii import KINDS, find_pii, masked, pii_step
from espalier.curate.pipeline import Ledger
from espalier.formats.read import read_examples
from espalier.records import Example, Message, messages_id

MASK = PiiConfig()


def kinds_in(text: str, language: str = "en") -> list[tuple[str, str]]:
    found = find_pii(text, MASK, language=language)
    return [(item.kind, text[item.start : item.end]) for item in found]


# --- numbers with checksums, made here by their defining formulas ---


def luhn_digit(digits: str) -> str:
    """ISO/IEC 7812-1: double every second digit from the right, sum the digits."""
    doubled = [int(d) * (2 if i % 2 == 0 else 1) for i, d in enumerate(reversed(digits))]
    return str(-sum(d // 10 + d % 10 for d in doubled) % 10)


def resident_digit(digits: str) -> str:
    """GB 11643: weights 2^(18−i) mod 11."""
    total = sum(int(d) * (2 ** (17 - i) % 11) for i, d in enumerate(digits))
    return "10X98765432"[total % 11]


def iban_digits(country: str, account: str) -> str:
    """ISO 13616: letters are 10 to 35, the whole is 1 modulo 97."""
    number = "".join(str(int(char, 36)) for char in f"{account}{country}00")
    return f"{98 - int(number) % 97:02d}"


def wrong(digit: str) -> str:
    return "0" if digit != "0" else "1"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("prefix", "length"),
    [("4", 16), ("51", 16), ("37", 15), ("6011", 16), ("62", 19), ("3528", 16)],
)
def test_cards(seed: int, prefix: str, length: int) -> None:
    draw = Random(f"{prefix}{seed}")
    body = prefix + "".join(draw.choices("0123456789", k=length - 1 - len(prefix)))
    digit = luhn_digit(body)
    grouped = " ".join((body + digit)[i : i + 4] for i in range(0, length, 4))
    texts = [f"Card {body}{digit}, thanks", f"卡号{body}{digit}。"]
    if length == 16:
        texts.append(f"Card: {grouped}.")
    for text in texts:
        assert [kind for kind, _ in kinds_in(text)] == ["card"], text
    bad = body + wrong(digit)
    assert "card" not in [kind for kind, _ in kinds_in(f"Card {bad}")]


def test_numbers_without_an_issuer_are_no_cards() -> None:
    body = "901234567890123"
    assert kinds_in(f"Order {body}{luhn_digit(body)}") == []
    assert kinds_in("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16") == []


@pytest.mark.parametrize("seed", range(20))
def test_resident_ids(seed: int) -> None:
    draw = Random(seed)
    born = datetime.date(1940, 1, 1) + datetime.timedelta(days=draw.randrange(28000))
    place = draw.choice(["110105", "310104", "440305", "510104"])
    body = f"{place}{born:%Y%m%d}{draw.randrange(1000):03d}"
    digit = resident_digit(body)
    assert kinds_in(f"身份证号：{body}{digit}。", "zh") == [("resident_id", body + digit)]
    assert kinds_in(f"ID {body}{digit.lower()} ok") == [("resident_id", body + digit.lower())]
    assert "resident_id" not in [kind for kind, _ in kinds_in(f"身份证号：{body}{wrong(digit)}")]


@pytest.mark.parametrize(
    "body", ["99010519491231002", "11010519491331002", "11010519490230002", "11010517491231002"]
)
def test_places_and_days_that_there_are_not(body: str) -> None:
    assert "resident_id" not in [kind for kind, _ in kinds_in(f"号码 {body}{resident_digit(body)}")]


@pytest.mark.parametrize(
    ("country", "account"),
    [("DE", "370400440532013000"), ("GB", "WEST12345698765432"), ("NL", "ABNA0417164300"),
     ("FR", "20041010050500013M02606"), ("CH", "00762011623852957")],
)  # fmt: skip
def test_ibans(country: str, account: str) -> None:
    digits = iban_digits(country, account)
    number = f"{country}{digits}{account}"
    spaced = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    assert kinds_in(f"Pay to {number} TODAY") == [("iban", number)]
    assert kinds_in(f"Pay to {spaced} TODAY please") == [("iban", spaced)]
    assert kinds_in(f"账号{number}。", "zh") == [("iban", number)]
    bad = f"{country}{(int(digits) + 1) % 97:02d}{account}"
    assert "iban" not in [kind for kind, _ in kinds_in(f"Pay to {bad} TODAY")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Mail jane.doe+x@mail.example.co.uk.", [("email", "jane.doe+x@mail.example.co.uk")]),
        ("邮箱：zhang_san@qq.com，谢谢", [("email", "zhang_san@qq.com")]),
        ("邮箱ａｂｃ＠ｑｑ．ｃｏｍ。", [("email", "ａｂｃ＠ｑｑ．ｃｏｍ")]),
        ("follow @jane on x.com, a@b, c..d@e.org", []),
        ("Call +44 20 7031 3000 now", [("phone", "+44 20 7031 3000")]),
        ("Call (650) 253-0000", [("phone", "(650) 253-0000")]),
        ("手机13800138000", [("phone", "13800138000")]),
        ("电话：１３８００１３８０００", [("phone", "１３８００１３８０００")]),
        ("座机 010-82193001", [("phone", "010-82193001")]),
        ("SSN 536-90-4399, not 666-12-1234 nor 000-12-1234", [("ssn", "536-90-4399")]),
        ("Host 8.8.8.8:53", [("ip", "8.8.8.8")]),
        ("Host 2001:4860:4860::8888.", [("ip", "2001:4860:4860::8888")]),
        ("服务器地址是114.114.114.114。", [("ip", "114.114.114.114")]),
        ("192.168.1.1, 10.0.0.1, 127.0.0.1, 192.0.2.7, ::1, fe80::1, 2001:db8::1", []),
        ("version 10.15.7.1, v8.8.8.8, 版本 8.8.4.4, 300.1.1.1, 1.2.3.4.5", []),
        ("at 12:30:45, std::map, a::b, face::b00c", []),
        ("Born 2024-10-12; 1234567890 people; pi 3.14159265358979; 1,234,567,890", []),
        ("ISBN 978-3-16-148410-0, order 20231105123456, 65 16 23 59 93", []),
        ("第123456789号，2023年10月12日，共100000000元", []),
        ("99999999999999999999999999999999", []),
    ],
)  # fmt: skip
def test_other_kinds_and_ordinary_numbers(text: str, found: list[tuple[str, str]]) -> None:
    language = "zh" if any("一" <= char <= "鿿" for char in text) else "en"
    assert kinds_in(text, language) == found


def token(prefix: str, length: int, alphabet: str = "abcdefgh1234567890XYZQWERTY") -> str:
    """A made-up secret, so that none stands in this file."""
    return prefix + "".join(Random(prefix).choices(alphabet, k=length))


@pytest.mark.parametrize(
    "key",
    [
        token("sk" + "-", 48), token("sk" + "-proj-", 60), token("sk" + "-ant-", 60),
        token("AK" + "IA", 16, "ABCDEFGHIJ234567"), token("AI" + "za", 35), token("gh" + "p_", 36),
        token("github" + "_pat_", 60), token("xox" + "b-", 40), token("h" + "f_", 34),
        token("sk" + "_live_", 24), token("LT" + "AI", 20), token("gl" + "pat-", 20),
    ],
)  # fmt: skip
def test_api_keys(key: str) -> None:
    for text in (f"export KEY={key}", f"密钥是{key}。", f'"{key}",'):
        assert kinds_in(text) == [("api_key", key)]


@pytest.mark.parametrize(
    "text",
    [
        "sk" + "-" + "x" * 40, "sk" + "-your-api-key-goes-right-here-please", "AKI" + "A" * 17,
        "hf" + "_hub_download_and_the_rest_of_it", "risk-1234567890abcdefghij1234",
        "h" + "f_" + "z" * 34,
    ],
)  # fmt: skip
def test_placeholders_are_no_keys(text: str) -> None:
    assert kinds_in(f"Set {text} first") == []


def test_private_keys() -> None:
    begin, end = "-----BEGIN RSA PRIVATE" + " KEY-----", "-----END RSA PRIVATE" + " KEY-----"
    block = f"{begin}\n{token('', 64)}\n{end}"
    assert kinds_in(f"Here:\n{block}\nbye") == [("api_key", block)]
    assert kinds_in(f"Here:\n{begin}\n{token('', 64)}") == [
        ("api_key", f"{begin}\n{token('', 64)}")
    ]


# --- what is done with it ---


def through(row: Example, **options: Any) -> tuple[list[Example], list[dict[str, Any]], Any]:
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    kept = list(ledger.through([row], [("pii", pii_step(PiiConfig(**options)))]))
    return kept, [json.loads(line) for line in handle.getvalue().splitlines()], ledger.tallies[0]


SECRETS = {
    "en": ["jane@mail.example.org", "(650) 253-0000", "4111 1111 1111 1111"],
    "zh": ["zhangsan@mail.example.cn", "13800138000", "11010519491231002X"],
}


def row_with_secrets(language: str) -> Example:
    mail, phone, number = SECRETS[language]
    extra = f"{mail}, {phone}" if language == "en" else f"{mail}，{phone}"
    return Example.make(
        [
            Message("system", f"You serve {mail}."),
            Message("user", f"Sort this.\n\n{extra}"),
            Message("assistant", f"Sorted: {number} … {phone}"),
        ],
        {"input": extra, "language": language, "source": "s", "row": {"contact": [mail]},
         "parents": ["p"], "original_id": "0123456789abcdef"},
    )  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_masked_rows_keep_nothing(language: str) -> None:
    row = row_with_secrets(language)
    kept, rejects, tally = through(row)
    (fixed,) = kept
    written = json.dumps(fixed.to_json(), ensure_ascii=False)
    assert rejects == []
    for secret in SECRETS[language]:
        assert secret not in written
    assert fixed.prompt.endswith(fixed.meta["input"])
    assert "<EMAIL>" in fixed.meta["input"]
    assert "<PHONE>" in fixed.meta["input"]
    assert fixed.meta["row"] == {"contact": ["<EMAIL>"]}
    assert (fixed.meta["source"], fixed.meta["parents"]) == ("s", ["p"])
    # The old id is a hash of the secrets: with it a guess could be confirmed.
    assert fixed.id == messages_id(fixed.messages)
    assert row.id not in written
    assert "original_id" not in fixed.meta
    last = "card" if language == "en" else "resident_id"
    assert fixed.meta["pii"] == {"email": 3, last: 1, "phone": 2}
    assert tally.changed == {"pii_email": 1, "pii_phone": 1, f"pii_{last}": 1}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_dropped_rows_are_stored_masked(language: str) -> None:
    row = row_with_secrets(language)
    kept, rejects, tally = through(row, email="drop")
    assert kept == []
    assert rejects[0]["rule"] == "pii_email"
    written = json.dumps([rejects, tally.samples["pii_email"].to_json()], ensure_ascii=False)
    for secret in [*SECRETS[language], row.id]:
        assert secret not in written
    assert "email 3" in rejects[0]["evidence"]


def test_flagged_rows_stay_as_they_are() -> None:
    row = row_with_secrets("en")
    flags = dict.fromkeys(KINDS, "flag")
    kept, _, tally = through(row, **flags)
    assert kept[0].messages == row.messages
    assert kept[0].id == row.id
    assert kept[0].meta == {**row.meta, "pii": {"card": 1, "email": 3, "phone": 2}}
    assert tally.changed["pii_card"] == 1


def test_kinds_that_are_off_are_left() -> None:
    row = row_with_secrets("en")
    kept, _, _ = through(row, **dict.fromkeys(KINDS, "off"))
    assert kept == [row]
    kept, _, _ = through(row, phone="off", card="flag")
    text = "\n".join(message.content for message in kept[0].messages)
    assert "<EMAIL>" in text
    assert SECRETS["en"][1] in text
    assert SECRETS["en"][2] in text
    assert kept[0].meta["pii"] == {"card": 1, "email": 3}


def test_a_second_pass_over_a_new_answer_adds_to_the_first() -> None:
    (asked,), _, _ = through(Example.single("Mail jane@mail.example.org", meta={"language": "en"}))
    answered = asked.with_response("Sent to jane@mail.example.org and (650) 253-0000.")
    (fixed,), _, tally = through(answered)
    assert fixed.meta["pii"] == {"email": 2, "phone": 1}
    assert fixed.response == "Sent to <EMAIL> and <PHONE>."
    assert tally.changed == {"pii_email": 1, "pii_phone": 1}
    (flagged,), _, _ = through(answered, email="flag", phone="flag")
    (again,), _, _ = through(flagged, email="flag", phone="flag")
    assert again.meta["pii"] == flagged.meta["pii"] == {"email": 1, "phone": 1}


def test_masking_twice_is_masking_once() -> None:
    text = "jane@mail.example.org, (650) 253-0000, 4111 1111 1111 1111"
    once = masked(text, find_pii(text, MASK, language="en"))
    assert once == "<EMAIL>, <PHONE>, <CARD>"
    assert find_pii(once, MASK, language="en") == []


def test_countries_of_phone_numbers_can_be_chosen() -> None:
    config = PiiConfig(phone_regions={"*": ["DE"]})
    text = "Tel. 030 23125-0, (650) 253-0000, +49 30 231250"
    found = [text[f.start : f.end] for f in find_pii(text, config, language="de")]
    assert found == ["030 23125-0", "+49 30 231250"]


@pytest.mark.parametrize(
    "piece", ["1", "1 ", "1.", "a@", "a.", "::", "A1", "@", "1-", "sk-", "-----BEGIN "]
)
def test_time_is_linear(piece: str) -> None:
    # A quadratic search of so many characters would not end within the test's limit.
    assert isinstance(find_pii(piece * (30_000 // len(piece)), MASK, language="en"), list)


def test_real_rows_are_mostly_left_alone(shared_data: Path) -> None:
    path = shared_data / "belle_zh" / "zh_seed_tasks.jsonl"
    rows = list(read_examples(path))
    touched = [
        [(f.kind, m.content[f.start : f.end]) for m in row.messages for f in
         find_pii(m.content, MASK, language="zh")]
        for row in rows
    ]  # fmt: skip
    assert sum(map(bool, touched)) <= len(rows) // 50, [item for item in touched if item]
