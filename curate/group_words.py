"""Patterns, verbs and category names of the task-group heuristic."""

from __future__ import annotations

import re

# Categories of published datasets (Dolly, MT-bench, common names) as task groups.
CATEGORIES = {
    "brainstorming": "generation",
    "creative_writing": "generation",
    "summarization": "generation",
    "summarisation": "generation",
    "writing": "generation",
    "coding": "generation",
    "code": "generation",
    "translation": "generation",
    "classification": "understanding",
    "closed_qa": "understanding",
    "information_extraction": "understanding",
    "extraction": "understanding",
    "reading_comprehension": "understanding",
    "math": "reasoning",
    "logic": "reasoning",
    "open_qa": "dialogue",
    "general_qa": "dialogue",
    "roleplay": "dialogue",
    "chat": "dialogue",
    "humanities": "dialogue",
    "stem": "dialogue",
    "rewrite": "transformation",
    "rewriting": "transformation",
    "editing": "transformation",
}


def _verbs(group: str, text: str) -> dict[str, str]:
    return dict.fromkeys(text.split(), group)


# Opening verbs that speak for a group when no pattern did.
VERB_GROUPS = {
    **_verbs(
        "generation",
        "write compose draft generate create design develop invent pen craft produce prepare plan "
        "suggest brainstorm build code implement make outline propose summarize summarise condense "
        "translate describe deliver offer sketch devise formulate construct come put program "
        "illustrate elaborate draw author list",
    ),
    **_verbs(
        "understanding",
        "classify identify extract label detect determine decide find categorize categorise "
        "categorise tag assign mark rate choose pick select highlight locate recognize retrieve "
        "interpret annotate read evaluate assess review spell tell analyze analyse answer search "
        "match check state does is which name",
    ),
    **_verbs(
        "reasoning",
        "solve calculate compute prove estimate deduce infer predict compare rank arrange order "
        "complete judge work simplify derive conclude evaluate schedule count trace find verify "
        "determine spot continue point consider sum add subtract multiply divide reason",
    ),
    **_verbs(
        "transformation",
        "rewrite rephrase paraphrase convert change transform correct edit reformat format express "
        "shorten expand adapt restate merge split combine encode decode simplify modify alter "
        "proofread replace remove reverse swap switch shift fix alphabetize alphabetise sort "
        "recast retell report refactor scale soften amend represent present capitalize unscramble "
        "turn fit insert improve revise reword punctuate abbreviate round tabulate reorganize "
        "translate_form",
    ),
    **_verbs(
        "dialogue",
        "explain tell reply respond recommend advise help talk imagine pretend play act argue "
        "ask chat teach discuss give speak introduce role-play roleplay share define persuade "
        "debate quiz clarify guide",
    ),
}

# Opening verbs that decide before any pattern of the text is looked at.
STRONG_VERBS = {
    **_verbs(
        "generation",
        "compose draft pen code implement brainstorm invent craft summarize summarise outline",
    ),
    **_verbs("understanding", "classify categorize categorise extract detect identify underline"),
    **_verbs("reasoning", "solve calculate compute prove deduce"),
    **_verbs(
        "transformation",
        "rewrite rephrase paraphrase convert reformat proofread alphabetize alphabetise refactor "
        "recast restate reword retell merge encode decode unscramble capitalize",
    ),
    **_verbs("dialogue", "explain recommend advise reply respond chat role-play roleplay discuss"),
}


def _compiled(*rows: tuple[str, str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((group, re.compile(pattern, re.IGNORECASE)) for group, pattern in rows)


_TEXT = (
    r"(?:sentence|passage|text|paragraph|article|review|statement|message|e-?mail|tweet|post|headline"
    r"|dialogue|conversation|story|snippet|excerpt|document|comment|letter|ticket|remark|utterance"
    r"|question|word|poem|lyrics?|speaker|author|writer)"
)
_ASKED = r"(?:is|are|was|were|does|do|did|can|could|should|which|who|whom|what|where|when|why|how)"

PATTERNS = {
    # Each row: a group, and what speaks for it. The first row that is found decides.
    "en role": _compiled(
        ("dialogue", r"\b(?:the )?(?:role|part|persona|character|voice) of an?\b(?!.*\btoast\b)"),
        (
            "dialogue",
            r"^(?!imagine (?:that )?you are \w+ing)(?:pretend|imagine|act|speak|speaking|answer|talk|behave|you(?:'re| are| work| run"
            r"| keep))\b.{0,40}\b(?:you|yourself|as|like|to be|a|an|at|the)\b",
        ),
        (
            "dialogue",
            r"\b(?:reply|respond|answer) to (?:the|this|a|an) (?:customer|guest|caller|client"
            r"|patient|user|friend|reader|visitor|student|complaint)",
        ),
        (
            "dialogue",
            r"\bcontinue the (?:conversation|dialogue|chat)\b|\bask (?:one|a|the user|me|for)\b"
            r".{0,40}\b(?:question|clarif)",
        ),
    ),
    # Sayings are explained by reading them.
    "en exception": _compiled(
        (
            "understanding",
            r"\b(?:idiom|saying|proverb|metaphor|meant by)\b|^explain\b.{0,30}[\"\u201c]",
        ),
    ),
    "en": _compiled(
        (
            "generation",
            r"\b(?:write|implement|create|build|develop|make)\b.{0,40}\b(?:function|program"
            r"|script|code|website|web page|app|class|algorithm|quer(?:y|ies)|regular expression)\b",
        ),
        (
            "transformation",
            r"\b(?:passive|active) voice\b|\b(?:convert|change|turn|express|encode|format"
            r"|transform|put|write|represent|switch|give|report|split|merge|join|render)\b.{0,60}\b(?:in|into"
            r"|to|as|from|with|by means of) (?:a |an |the |one )?(?:\w+ )?(?:csv|json|xml|yaml|markdown|html"
            r"|binary|hexadecimal|roman|upper ?case|lower ?case|camelcase|first person|third person"
            r"|past tense|present tense|plain (?:modern )?english|formal (?:one|message|tone|style)|celsius"
            r"|fahrenheit|kelvin|kilomet(?:er|re)s|metric|digits|the form [A-Z0-9-]+|24-hour|12-hour|hours and"
            r" minutes|relative clause)\b",
        ),
        (
            "transformation",
            r"\b(?:rewrite|rephrase|paraphrase|reword|restate|reformat|proofread"
            r"|alphabetize|alphabetise|refactor|punctuate)\b|\b(?:correct|fix|check) (?:the |any |all )?"
            r"(?:\w+ )?(?:spelling|grammar|punctuation|typos?|errors?|mistakes?)\b",
        ),
        (
            "transformation",
            r"\b(?:fewer|shorter|simpler|other|different) words\b|\bkeep(?:ing)? (?:its|the)"
            r" (?:main )?(?:meaning|point|sense)\b|\bwithout (?:altering|changing) (?:the|its) meaning\b",
        ),
        ("generation", r"\b(?:translate|translation of|summari[sz]e|summary of)\b"),
        (
            "reasoning",
            r"\b(?:solve|calculate|compute|prove that|probability|derive|simplify the (?:\w+ )*"
            r"expression|equation|word problem|step[- ]by[- ]step|show (?:each|your|the|all) (?:step|work)"
            r"|number sequence|sequence of numbers|next (?:\w+ )?(?:numbers?|terms?)|happens? (?:next|if)"
            r"|analogy|prime|syllogism|fallacy|flaw|logical(?:ly)?|deduce|true or false|valid or invalid"
            r"|odd one out|unlike the other|not belong with|relationship between [A-Z]\b|(?:true|false),? (?:or )?uncertain|possible to arrange|at the same time)\b",
        ),
        (
            "reasoning",
            r"(?=.*(?:\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve|half|twice)\b))"
            r".*\b(?:how (?:many|much|long|far|old|fast|tall|often)|what(?: is|'s|\u2019s| does| must| will| was) the "
            r"(?:total|cost|price|average|sum|area|value|speed|distance|remainder)|what must|what day|which "
            r"day|per cent|percent of|percentage|in total|are left|is left|remain)\b",
        ),
        (
            "reasoning",
            r"\bwhich (?:\w+ )*is (?:the )?(?:cheap|heav|light|tall|old|young|fast|bigg|larg|small"
            r"|long|short|better|more)|\bhow many ways\b|\b(?:what|which) (?:is|are) the (?:cheap|heavi|fast)"
            r"|\bwhat (?:it|this|the (?:code|program|snippet|function)) (?:prints?|outputs?|returns?)\b"
            r"|\b(?:earliest to latest|unit price|who is guilty|guilty|interest is)\b"
            r"|\b[a-z]\s*[=+*/^]\s*\d|\d\s*[a-z]?\s*[+*/^=]\s*\d",
        ),
        # A story with three numbers and a question at its end: a word problem.
        ("reasoning", r"\d\D{2,}\d\D{2,}\d.*\b(?:how|what|which|when)\b[^?]*\?\s*$"),
        (
            "understanding",
            r"\b(?:classify|categori[sz]e|sentiment|entailment|part of speech|emotion"
            r"|spam|sarcas\w+|in common|idiom|proverb|saying|metaphor|figure of speech|intent|tone of|main idea"
            r"|named entit\w+)\b|\bfact or (?:an )?opinion\b|\bpositive\b.{0,20}\bnegative\b|\byes or no\b"
            r"|\bone word\b.{0,12}$|\bone of (?:these|the following)\b|\bexactly one\b.{0,20}:",
        ),
        (
            "understanding",
            r"\b(?:extract|identify|detect|underline|highlight|pick out|locate)\b"
            r"|\b(?:from|in|of|according to|based on) (?:the|this|each|a) (?:\w+ ){0,2}"
            + _TEXT
            + r"s?\b.{0,60}\?"
            r"|^"
            + _ASKED
            + r"\b.{0,80}\b(?:the|this|these|two|second) (?:\w+ )?"
            + _TEXT
            + r"s?\b",
        ),
        (
            "generation",
            r"\b(?:write|compose|draft|create|generate|design|invent|suggest|make|develop|give"
            r"|come up|tell|begin)\b.{0,60}\b(?:poem|story|essay|e-?mail|letter|blog|script|speech|song"
            r"|slogan|function|program|code|quer(?:y|ies)|plan|recipe|outline|report|template|haiku|limerick"
            r"|headline|advert\w*|post|names?|ideas?|list|examples?|questions?|reasons?|quiz|review|joke"
            r"|riddle|itinerary|notice|flyer|toast)\b",
        ),
        (
            "dialogue",
            r"\b(?:any (?:advice|tips)|advice|what should (?:i|we)|cheer (?:me|him|her) up|talk me"
            r"|i feel|my (?:friend|boss|wife|husband|son|daughter|cat|dog|mother|father)|how (?:do|can|should)"
            r" (?:i|we|you)|can you (?:explain|tell|help)|could you (?:explain|tell|help)|tell me (?:about|a)"
            r"|general tips)\b",
        ),
    ),
    "zh": _compiled(
        (
            "dialogue",
            r"扮演|角色|假如你是|假设你是|假装|你(?:是|现在是)一(?:名|位|个)|像.{1,8}(?:那样|一样)|口吻"
            r"|以.{1,8}身份(?:回|答|来)|当一回|作为.{1,8}(?:，|,)?(?:回答|回复|告诉)",
        ),
        (
            "dialogue",
            r"回复|答复|回应|反问|聊聊|聊天|安慰|有什么.{0,6}建议|有建议吗|给.{0,4}建议|怎么办|怎么开口"
            r"|逗我|推荐|我(?:朋友|感到|觉得|最近|想|该)|该怎么(?:办|说|开)|接着这段对话|礼貌地|礼节",
        ),
        (
            "transformation",
            r"改写|改为|改成|改得|转换|换成|换算|转为|转述|变成|变(?:陈述|疑问|肯定|否定)|缩写|扩写"
            r"|缩短|拆成|合并成|合成一|连成|调整.{0,6}顺序|注上|拼音|繁体|简体|大写|润色|纠正|修改|更正|标点|精简"
            r"|委婉|大白话|白话|书面语说|口语说|重述|重新(?:表达|表述)|删去|统一成|格式|整理.{0,10}成|做成.{0,8}表"
            r"|替换|加空格|逐位|写成(?!.{0,6}(?:文章|故事|诗))|用数字|转成|翻成(?!中文|英文)",
        ),
        ("generation", r"翻译|译成|译为|概括|总结|摘要|归纳成"),
        (
            "reasoning",
            r"计算|求解|解方程|方程|应用题|证明|概率|多少|几(?:个|只|天|岁|点|段|元|种|米|次|人|名|小时)"
            r"|规律|推理|推测|推断|逻辑|论证|成立|哪(?:家|个|种|样|一个)?更|更便宜|更重|会怎么样|接下来|不同类"
            r"|星期几|算一算|排列这些|从高到矮|从小到大|真是假|是真|谁(?:说谎|最)|各做什么|在哪里？$|输出，|关系，填"
            r"|步骤|为什么.{1,10}应该|预测",
        ),
        (
            "understanding",
            r"分类|归入|归为|类别|情感|情绪|判断|判定|识别|提取|抽取|找出|指出|选一个|选择|选出|二选一"
            r"|三选一|四选一|是否|还是|事实|观点|根据(?:短文|原文|上文|文章|段落)|短文|原文|文中|句中|句子(?:里|中)"
            r"|修辞|成语|俗语|谚语|这句话|这段|词性|意图|主旨|段落大意|检查|检测|分辨|比较.{1,12}(?:句|意思)|理解"
            r"|错别字|要求？|道理|感受|共同点|标题$",
        ),
        (
            "generation",
            r"写|编|撰|拟|创作|构思|设计|列出|起.{0,3}名|取.{0,3}名|策划|制定|规划|准备|出.{1,8}题"
            r"|代码|函数|程序|SQL|诗|故事|作文|广告|标语|祝|启事|通知|计划|清单|菜谱|讲一个|描写|理由|生成|什么菜",
        ),
        ("dialogue", r"解释|介绍|说明|什么是|为什么|如何|怎么|怎样|告诉我|吗？|呢？|什么"),
    ),
}
