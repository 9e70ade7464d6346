"""Names of languages, in the ways that data sets write them."""

from __future__ import annotations

import pytest

from espalier.language_names import language_code
from espalier.languages import LANGUAGES


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("English", "en"),
        (" english ", "en"),
        ("en_US", "en"),
        ("en-GB", "en"),
        ("eng", "en"),
        ("eng_Latn", "en"),
        ("英语", "en"),
        ("Chinese", "zh"),
        ("zh-CN", "zh"),
        ("zh_Hant_TW", "zh"),
        ("zho_Hans", "zh"),
        ("cn", "zh"),
        ("中文", "zh"),
        ("简体中文", "zh"),
        ("Chinese (Simplified)", "zh"),
        ("Simplified Chinese", "zh"),
        ("Traditional-Chinese", "zh"),
        ("Français", "fr"),
        ("pt-BR", "pt"),
        ("es-419", "es"),
        ("Tiếng Việt", "vi"),
        ("日本語", "ja"),
        ("other", "other"),
        ("python", None),
        ("C++", None),
        ("html", None),
        ("unknown", None),
        ("", None),
        ("English and Chinese", None),
        ("en,zh", None),
        ("plain text", None),
    ],
)
def test_codes(written: str, code: str | None) -> None:
    assert language_code(written) == code


def test_every_code_that_texts_are_labelled_with_stays() -> None:
    assert [language_code(code) for code in LANGUAGES] == list(LANGUAGES)
