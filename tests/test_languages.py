"""Languages are told by script and model; what can't be told is said to be so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.errors import UsageError
from espalier.formats.read import read_examples
from espalier.languages import LANGUAGES, check_languages, could_be, identify

SENTENCES = {
    "en": "The committee will publish its report on renewable energy next week.",
    "de": "Der Ausschuss wird seinen Bericht über erneuerbare Energien nächste Woche vorlegen.",
    "fr": "La commission publiera la semaine prochaine son rapport sur les énergies renouvelables.",
    "es": "La comisión publicará la próxima semana su informe sobre las energías renovables.",
    "it": "La commissione pubblicherà la prossima settimana la sua relazione sulle energie.",
    "pt": "A comissão vai publicar na próxima semana o seu relatório sobre energias renováveis.",
    "nl": "De commissie zal volgende week haar verslag over hernieuwbare energie publiceren.",
    "sv": "Kommittén kommer att publicera sin rapport om förnybar energi nästa vecka.",
    "pl": "Komisja opublikuje w przyszłym tygodniu swój raport na temat energii odnawialnej.",
    "tr": "Komisyon yenilenebilir enerji hakkındaki raporunu gelecek hafta yayınlayacak.",
    "vi": "Ủy ban sẽ công bố báo cáo về năng lượng tái tạo vào tuần tới.",
    "id": "Komite akan menerbitkan laporan tentang energi terbarukan minggu depan.",
    "ru": "Комиссия опубликует доклад о возобновляемой энергии на следующей неделе.",
    "uk": "Комісія опублікує звіт про відновлювану енергетику наступного тижня.",
    "el": "Η επιτροπή θα δημοσιεύσει την έκθεσή της για τις ανανεώσιμες πηγές ενέργειας.",
    "ar": "ستنشر اللجنة تقريرها عن الطاقة المتجددة في الأسبوع المقبل.",
    "he": "הוועדה תפרסם את הדוח שלה על אנרגיה מתחדשת בשבוע הבא.",
    "hi": "समिति अगले सप्ताह नवीकरणीय ऊर्जा पर अपनी रिपोर्ट प्रकाशित करेगी।",
    "zh": "委员会将于下周发表关于可再生能源的报告。",
    "ja": "委員会は来週、再生可能エネルギーに関する報告書を発表する。",
    "ko": "위원회는 다음 주에 재생 에너지에 관한 보고서를 발표할 예정이다.",
    "th": "คณะกรรมการจะเผยแพร่รายงานเกี่ยวกับพลังงานหมุนเวียนในสัปดาห์หน้า",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences(language: str) -> None:
    found = identify(SENTENCES[language])
    assert (found.code, found.certain) == (language, True)
    assert could_be(found, [language, "en"])
    assert not could_be(found, [other for other in LANGUAGES if other != language])
    # Loud text and a little code change nothing.
    assert identify(SENTENCES[language].upper()).code == language
    assert identify("`x = f(y)` https://example.org/a?b=c " + SENTENCES[language]).code == language


@pytest.mark.parametrize("text", ["Bonjour", "Ja", "Paris", "Red", "OK, 42 km", "x = f(y) + 1"])
def test_short_texts_are_left_to_their_script(text: str) -> None:
    found = identify(text)
    assert not found.certain
    assert could_be(found, ["de"])
    assert could_be(found, ["zh", "fr"])
    assert not could_be(found, ["zh"])
    assert not could_be(found, ["ru", "ja"])
    assert could_be(identify("Красный"), ["en", "uk"])
    assert not could_be(identify("Красный"), ["en", "zh"])


@pytest.mark.parametrize("text", ["", "12 + 30 = ?", "★★★★★", "？！"])
def test_texts_without_letters_are_in_any_language(text: str) -> None:
    assert could_be(identify(text), ["de"])
    assert could_be(identify(text), ["zh"])


def test_short_texts_of_a_script_of_their_own_are_certain() -> None:
    assert not could_be(identify("你好"), ["en"])
    assert not could_be(identify("はい"), ["en", "zh"])
    assert could_be(identify("用 Python 写一个排序函数"), ["zh"])


def test_unknown_codes_are_refused_by_name() -> None:
    check_languages(["en", "zh", "de"], "here")
    with pytest.raises(UsageError, match="no language 'english'"):
        check_languages(["english"], "here")


def test_real_rows_are_in_their_language(shared_data: Path) -> None:
    for name, language in (
        ("self_instruct/seed_tasks.jsonl", "en"),
        ("belle_zh/zh_seed_tasks.jsonl", "zh"),
        ("sharegpt/dummy_conversation.json", "en"),
    ):
        texts = [row.prompt for row in read_examples(shared_data / name)]
        wrong = [text for text in texts if not could_be(identify(text), [language])]
        # The seeds hold a few prompts that are a single name or sentence in another language.
        assert len(wrong) <= len(texts) // 50, wrong


def test_the_model_is_loaded_only_when_it_is_asked() -> None:
    code = (
        "import sys, json; from espalier.languages import identify; "
        "identify('你好世界'); identify('Yes'); first = 'py3langid' in sys.modules; "
        "found = identify('La commission publiera la semaine prochaine son rapport'); "
        "print(json.dumps([first, 'py3langid' in sys.modules, found.code]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == [False, True, "fr"]
