"""Does an answer refuse instead of answering? English and Chinese phrasings."""

from __future__ import annotations

import re

# A refusal opens with it; later in a long answer the same words are mostly something else.
_OPENING_CHARACTERS = 240

_CANNOT = (
    r"(?:can(?:no|['’ ]?)t|could(?:n['’]t| not)|am (?:not able|unable|not allowed|not permitted)"
    r"(?: to)?|['’]m (?:not able|unable|not allowed|not permitted)(?: to)?|"
    r"won['’]t(?: be able to)?|"
    r"will not(?: be able to)?|am not (?:going|programmed|designed) to|"
    r"['’]m not (?:going|programmed|designed) to|must (?:decline|refuse)(?: to)?|"
    r"have to (?:decline|refuse)(?: to)?|do(?:n['’]t| not) feel comfortable(?: with)?|"
    r"['’]m not comfortable(?: with)?|am not comfortable(?: with)?|decline to|refuse to)"
)
_DO = (
    r"(?:help|assist|answer|comply|fulfil?l?|provide|offer|give|create|generate|produce|"
    r"complete|perform|do (?:that|this|so)|engage|discuss|support|respond|continue|participate|"
    r"satisfy|access|browse|carry out|process|handle|share|write|"
    r"(?:with )?(?:that|this|your|the) (?:request|question|task))(?:e?d|ing)?\b"
)
_SORRY = (
    r"(?:(?:i['’]m |i am |we['’]re )?(?:very |so |really |truly )?(?:sorry|afraid)|my apologies|"
    r"i apologi[sz]e|unfortunately|regrettably|apologies)"
)
_ENGLISH = [
    rf"^\W*(?:{_SORRY}\b[^.!?\n]{{0,60}}?\b)?i ?(?:{_CANNOT}) (?:\w+ ){{0,3}}?{_DO}",
    r"^\W*(?:sorry|apologies|i['’]m sorry|i am sorry)\b[^.!?\n]{0,40}?\b(?:as|since|because)\b"
    r"[^.!?\n]{0,20}\b(?:ai|language model)\b",
    r"\bas an? (?:\w+ )?(?:ai|artificial intelligence|language model|ai language model|"
    r"large language model|assistant)\b[^.!?\n]{0,60}\bi (?:\w+ )?(?:can(?:no|['’])t|do(?:n['’]t| "
    r"not)|am (?:not|unable)|['’]m (?:not|unable)|lack|have no)",
    r"^\W*i(?: am|['’]m) (?:just |only )?an? (?:\w+ )?(?:ai|language model)\b"
    r"[^.!?\n]{0,60}\b(?:can(?:no|['’])t|unable|not able|do(?:n['’]t| not))",
    rf"^\W*(?:{_SORRY},? (?:but )?)?(?:this|that|it)(?: request| question)? "
    r"(?:is (?:not something i can|against my|outside my)|goes against my|violates)",
    r"^\W*(?:i (?:can['’]?t|cannot)|sorry,? (?:but )?(?:i )?(?:can['’]?t|cannot|no)"
    r"(?: do (?:that|this|it))?)\W*$",
]

_CHINESE_SORRY = r"(?:非常|很|十分|真的)?(?:抱歉|对不起|遗憾|不好意思|對不起)"
_CHINESE_CANNOT = (
    r"(?:无法|不能够?|没办法|没有办法|不可以|不便|难以|不会(?:为|帮)|拒绝|無法|沒辦法|不被允许)"
)
_CHINESE_DO = (
    r"(?:回答|帮助|帮忙|协助|提供|完成|满足|生成|处理|执行|参与|讨论|支持|给出|创建|撰写|访问|"
    r"回应|继续|做到|这样做|为您|为你|给您|给你|帮您|帮你|直接|查看|浏览|获取|提供|幫助|協助)"
)
_OPENING = r"^\W*(?:sorry\W{1,4})?"
_CHINESE = [
    rf"{_OPENING}{_CHINESE_SORRY}[^。！？\n]{{0,24}}?(?:我|本人|本助手|这个问题|这)?[^。！？\n]{{0,12}}?"
    rf"{_CHINESE_CANNOT}[^。！？\n]{{0,8}}?{_CHINESE_DO}",
    rf"{_OPENING}我(?:现在|目前|暂时|恐怕)?{_CHINESE_CANNOT}[^。！？\n]{{0,6}}?{_CHINESE_DO}",
    r"(?:作为|身为|我(?:只)?是)[^。！？\n]{0,8}?(?:AI|人工智能|语言模型|大模型|智能助手|机器人)"
    r"[^。！？\n]{0,20}?[，,。]?[^。！？\n]{0,12}?(?:无法|不能|没有(?:能力|办法|权限|情感|个人)|"
    r"不具备|不会|不便)",
    rf"{_OPENING}{_CHINESE_SORRY}[，,。！!\s]*(?:我)?(?:不能|无法|不行|做不到|帮不了你?您?)\W*$",
]

_PATTERN = re.compile("|".join(f"(?:{p})" for p in (*_ENGLISH, *_CHINESE)), re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether the answer opens by declining the task (an apology alone is none).

    Phrase rules, English and Chinese; they look at the first 240 characters only, so a refusal
    that is quoted, translated or told about later in an answer does not count.
    """
    return _PATTERN.search(text.strip()[:_OPENING_CHARACTERS]) is not None


_DISCLAIMER = re.compile(
    r"\b(?:as|being|since i am|since i['’]m|because i am|because i['’]m|i am|i['’]m)"
    r" (?:just |only |merely |simply )?an? (?:\w+[ -]){0,2}?"
    r"(?:ai|a\.i\.|artificial intelligence|(?:large )?language model|chatbot)\b"
    r"(?! (?:researcher|engineer|scientist|expert|company|startup|student|developer|specialist))"
    r"|\bmy (?:training data|knowledge cut-?off)\b"
    r"|\btrained by (?:openai|anthropic|google|meta)\b"
    r"|(?:作为|身为|我(?:只|仅仅|仅)?是)(?:一个|一名|一款|一种)?[^。！？，,\n]{0,8}?"
    r"(?:AI|人工智能|语言模型|大模型|智能助手|聊天机器人)"
    r"(?!(?:研究|工程|专家|公司|专业|领域|行业|学生|开发|的(?:研究|一|重要|核心|基础|分支)))"
    r"|我的(?:训练数据|知识截止)|由(?:OpenAI|Anthropic|谷歌|百度|阿里)(?:训练|开发)",
    re.IGNORECASE,
)


def disclaimer(text: str) -> str | None:
    """Where a text says of itself, anywhere, that an AI wrote it ("as an AI language model",
    "作为一个人工智能"): the words, else None.

    Found by phrase: a story that has a robot say so has them too.
    """
    found = _DISCLAIMER.search(text)
    return None if found is None else text[max(0, found.start() - 20) : found.end() + 40].strip()
