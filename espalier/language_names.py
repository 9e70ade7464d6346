"""Names of languages as data sets write them, brought to the codes that texts are labelled with."""

from __future__ import annotations

import re
import unicodedata

# ISO 639-1.
_TWO_LETTERS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu "
    "cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi "
    "ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks "
    "ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl "
    "nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl "
    "sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve "
    "vi vo wa wo xh yi yo za zh zu"
)
_CODES = frozenset(_TWO_LETTERS.split())
# Codes of three letters (ISO 639-2/3), slips, and names: English, Chinese, the language's own.
_NAMES = {
    "ar": "ara arabic العربية 阿拉伯语",
    "bg": "bul bulgarian български",
    "bn": "ben bengali bangla বাংলা",
    "ca": "cat catalan català",
    "cs": "ces cze czech čeština",
    "da": "dan danish dansk",
    "de": "deu ger german deutsch 德语 德文",
    "el": "ell gre greek ελληνικά",
    "en": "eng english inglés anglais englisch 英语 英文 英語",
    "es": "spa spanish español castellano 西班牙语",
    "fa": "fas per persian farsi فارسی",
    "fi": "fin finnish suomi",
    "fr": "fra fre french français 法语 法文",
    "he": "heb hebrew עברית",
    "hi": "hin hindi हिन्दी हिंदी 印地语",
    "hu": "hun hungarian magyar",
    "id": "ind indonesian bahasa_indonesia",
    "it": "ita italian italiano 意大利语",
    "ja": "jpn jp japanese 日本語 日语 日文",
    "ko": "kor korean 한국어 韩语 韩文",
    "ms": "msa may malay",
    "nl": "nld dut dutch nederlands",
    "no": "nor norwegian norsk",
    "pl": "pol polish polski",
    "pt": "por portuguese português 葡萄牙语",
    "ro": "ron rum romanian română",
    "ru": "rus russian русский 俄语 俄文",
    "sv": "swe swedish svenska",
    "sw": "swa swahili kiswahili",
    "ta": "tam tamil தமிழ்",
    "th": "tha thai ไทย 泰语",
    "tl": "tgl tagalog filipino",
    "tr": "tur turkish türkçe",
    "uk": "ukr ukrainian українська",
    "ur": "urd urdu اردو",
    "vi": "vie vietnamese tiếng_việt 越南语",
    "zh": "zho chi cmn yue cn chinese mandarin cantonese simplified_chinese traditional_chinese "
    "chinese_simplified chinese_traditional mandarin_chinese 中文 汉语 漢語 华语 普通话 简体中文 "
    "繁体中文 繁體中文 简体 繁体 简中 繁中 中文简体 中文繁体",
}  # fmt: skip
_BY_NAME = {
    unicodedata.normalize("NFKC", name).casefold(): code
    for code, names in _NAMES.items()
    for name in names.split()
}


def language_code(text: str) -> str | None:
    """The code of a language that is given as a code, a tag or a name; None for anything else.

    So `zh`, `zh-CN`, `en_US`, `eng_Latn`, `English`, `Simplified Chinese`; `other` stays.
    """
    name = unicodedata.normalize("NFKC", text).strip().casefold()
    name = re.sub(r"\s*\(.*\)$", "", name)
    if name in _CODES or name == "other":
        return name
    whole = re.sub(r"[\s_-]+", "_", name)
    first, *rest = whole.split("_")
    if whole in _BY_NAME or not rest or " " in name:
        return _BY_NAME.get(whole)
    # A tag: language, then script (4 letters), region (2 letters or 3 digits) and so on.
    if all(re.fullmatch(r"[a-z0-9]{2,8}", part) for part in rest):
        return first if first in _CODES else _BY_NAME.get(first)
    return None
