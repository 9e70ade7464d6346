"""How each kind of personal data is told: a pattern that is cheap to look for, then a check."""

from __future__ import annotations

import datetime
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text (start and end in characters) that is of one kind."""

    kind: str
    start: int
    end: int


Finder = Callable[[str, Sequence[str]], Iterator[Found]]

# Every repetition is bounded and none can begin inside another match of itself, so the time is
# linear in the text.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
# As many digits as the shortest phone number has.
MANY_DIGITS = re.compile(r"[0-9](?:[ \t().\-–—/]{0,3}[0-9]){6}")
NUMBERS = frozenset({"phone", "card", "resident_id", "ssn"})
_CARD = re.compile(r"(?<![0-9.,])[0-9](?:[ -]?[0-9]){12,18}(?![0-9]|[.,][0-9])")
_RESIDENT = re.compile(
    r"(?<![0-9A-Za-z])[1-8][0-9]{5}[ -]?(?:18|19|20)[0-9]{6}[ -]?[0-9]{3}[0-9Xx](?![0-9A-Za-z])"
)
_IBAN_START = re.compile(r"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?"
)
_SSN = re.compile(r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])")
_DOTTED = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV4 = re.compile(r"(?<![A-Za-z0-9_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?[A-Za-z0-9_])")
_IPV6 = re.compile(
    r"(?<![A-Za-z0-9_:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![A-Za-z0-9_:])"
)
_CHINESE_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_CALLED = re.compile(
    r"\b(?:tel|phone|telephone|call|mobile|cell|fax|whatsapp|number|hotline)\b|电话|手机|号码|拨打|"
    r"联系|传真|热线|致电",
    re.IGNORECASE,
)
_VERSION = re.compile(r"(?:\bv|version|release|build|firmware|版本|版)[ :：.]{0,2}$", re.IGNORECASE)
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|rk|pk)-(?:[a-z]{2,12}-)?[A-Za-z0-9_-]{20,200}"
    r"|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,120}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|AIza[0-9A-Za-z_-]{35}"
    r"|gh[pousr]_[A-Za-z0-9]{36,120}|github_pat_[A-Za-z0-9_]{40,120}"
    r"|glpat-[A-Za-z0-9_-]{20,64}"
    r"|xox[abeprs]-[A-Za-z0-9-]{20,120}"
    r"|hf_[A-Za-z0-9]{30,60}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,250}"
    r"|SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{40,46}"
    r"|LTAI[A-Za-z0-9]{12,26}|AKID[A-Za-z0-9]{28,36}"
    r"|eyJ[A-Za-z0-9_-]{15,2000}\.eyJ[A-Za-z0-9_-]{15,2000}\.[A-Za-z0-9_-]{20,1000}"
    r")(?![A-Za-z0-9])"
)
_KEY_SIGNS = re.compile(
    r"[srp]k[-_]|AKIA|ASIA|AIza|gh[pousr]_|github_pat_|glpat-|xox|hf_|npm_|pypi-|SG\.|LTAI|AKID|eyJ"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN ((?:[A-Z]+ ){0,3})PRIVATE KEY(?: BLOCK)?-----.{1,20000}?"
    r"(?:-----END \1PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
# Bits a character of the random part; words, and runs such as xxxx, have less or have no digit.
_ENTROPY = 3.0
# Provinces and the like of GB/T 2260; 81 to 83 are residence permits.
_PROVINCES = frozenset(
    [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55),
     *range(61, 66), 71, *range(81, 84)]
)  # fmt: skip
_OLDEST = 1850
# Unicast addresses of the internet.
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
# (first and last prefix, lengths) of the issuers, ISO/IEC 7812.
_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)), (2221, 2720, (16,)),  # Mastercard
    (34, 34, (15,)), (37, 37, (15,)),  # American Express
    (62, 62, (16, 17, 18, 19)), (81, 81, (16, 17, 18, 19)),  # UnionPay
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (6011, 6011, (16, 19)), (644, 649, (16, 19)), (65, 65, (16, 19)),  # Discover
    (300, 305, (14,)), (3095, 3095, (14,)), (36, 36, (14,)), (38, 39, (14,)),  # Diners Club
    (2200, 2204, (16, 17, 18, 19)),  # Mir
    (5018, 5018, (16,)), (5020, 5020, (16,)), (5038, 5038, (16,)), (6304, 6304, (16,)),
    (6759, 6759, (16,)), (6761, 6763, (16,)),  # Maestro
)  # fmt: skip


def _emails(text: str, regions: Sequence[str]) -> Iterator[Found]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if ".." not in match.group() and ".@" not in match.group():
                yield Found("email", match.start(), match.end())


def _phones(text: str, regions: Sequence[str]) -> Iterator[Found]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    seen: set[tuple[int, int]] = set()
    # ZZ is no country: only numbers that begin with + are found.
    for region in regions or ["ZZ"]:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
            place = (match.start, match.end)
            if place not in seen and _is_phone(match.raw_string, text[: match.start]):
                seen.add(place)
                yield Found("phone", *place)


def _is_phone(raw: str, before: str) -> bool:
    """Whether a number that could be dialled is written like one, or called one just before.

    Chinese mobile numbers are written in one piece; elsewhere that is mostly another number.
    """
    if raw.startswith("+") or _CHINESE_MOBILE.fullmatch(raw):
        return True
    groups = re.findall(r"[0-9]+", raw)
    if len(groups) == 1 or max(map(len, groups)) <= 2 or "--" in raw:
        return _CALLED.search(before[-30:]) is not None
    return True


def _ips(text: str, regions: Sequence[str]) -> Iterator[Found]:
    if _DOTTED.search(text):
        for match in _IPV4.finditer(text):
            version = _VERSION.search(text, max(0, match.start() - 12), match.start())
            if not version and _is_public(match.group()):
                yield Found("ip", match.start(), match.end())
    if _COLONS.search(text):
        for match in _IPV6.finditer(text):
            if _is_public(match.group()):
                yield Found("ip", match.start(), match.end())


def _is_public(text: str) -> bool:
    """Whether it is an address of the internet; private, local, documentation ones name nobody."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast:
        return False
    return address.version == 4 or address in _IPV6_PUBLIC


def _cards(text: str, regions: Sequence[str]) -> Iterator[Found]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match.group())
        if _has_issuer(digits) and _is_grouped(match.group()) and luhn.is_valid(digits):
            yield Found("card", match.start(), match.end())


def _has_issuer(digits: str) -> bool:
    return any(
        len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last
        for first, last, lengths in _ISSUERS
    )


def _is_grouped(text: str) -> bool:
    """Cards are written in one piece or in groups; `1 2 3 4 …` is a list of numbers."""
    groups = re.split(r"[ -]", text)
    return len(groups) == 1 or all(len(group) >= 3 for group in groups)


def _resident_ids(text: str, regions: Sequence[str]) -> Iterator[Found]:
    from stdnum.cn.ric import calc_check_digit

    for match in _RESIDENT.finditer(text):
        number = re.sub(r"[ -]", "", match.group()).upper()
        if (
            int(number[:2]) in _PROVINCES
            and _is_date(number[6:14])
            and calc_check_digit(number) == number[-1]
        ):
            yield Found("resident_id", match.start(), match.end())


def _is_date(digits: str) -> bool:
    try:
        date = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return date.year >= _OLDEST


def _ibans(text: str, regions: Sequence[str]) -> Iterator[Found]:
    if not _IBAN_START.search(text):
        return
    from stdnum import iban

    for match in _IBAN.finditer(text):
        # Words in capitals may follow; the country's form settles where the number ends.
        written = match.group()
        while len(written) >= 15:
            if iban.is_valid(written, check_country=False):
                yield Found("iban", match.start(), match.start() + len(written))
                break
            written = written[:-1].rstrip(" -")


def _ssns(text: str, regions: Sequence[str]) -> Iterator[Found]:
    from stdnum.us import ssn

    for match in _SSN.finditer(text):
        if ssn.is_valid(match.group()):
            yield Found("ssn", match.start(), match.end())


def _keys(text: str, regions: Sequence[str]) -> Iterator[Found]:
    if "PRIVATE KEY" in text:
        for match in _PRIVATE_KEY.finditer(text):
            yield Found("api_key", match.start(), match.end())
    if _KEY_SIGNS.search(text):
        for match in _KEY.finditer(text):
            if _is_random(match.group()):
                yield Found("api_key", match.start(), match.end())


def _is_random(key: str) -> bool:
    """Whether the part after the prefix looks drawn: digits among letters, high entropy."""
    tail = re.split(r"[-_.]", key, maxsplit=1)[-1] if re.match(r"[a-zS]", key) else key[4:]
    if not any(char.isdigit() for char in tail) or not any(char.isalpha() for char in tail):
        return False
    counts = Counter(tail).values()
    entropy = -sum(n / len(tail) * math.log2(n / len(tail)) for n in counts)
    return entropy >= _ENTROPY


FINDERS: Mapping[str, Finder] = {
    "email": _emails,
    "phone": _phones,
    "ip": _ips,
    "card": _cards,
    "resident_id": _resident_ids,
    "iban": _ibans,
    "ssn": _ssns,
    "api_key": _keys,
}
