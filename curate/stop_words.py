"""Stop words of English and Chinese, and whether a text is made of nothing else.

Words that are often a whole answer ("no", "both", "all", "here", "他", "不") are not listed.
"""

from __future__ import annotations

from unicodedata import category

from espalier.text import is_cjk, tokens

_ENGLISH = """
a about above after again against am an and any are aren as at be because been before being
below between but by can could couldn d did didn do does doesn doing don down during each few
for from further had hadn has hasn have haven having he her hers herself him himself his how i
if in into is isn it its itself just ll m me more most mustn my myself nor of off on once only
or other ought our ours ourselves out over own re s same shan she should shouldn so some such t
than that the their theirs them themselves then there these they this those through to too under
until up upon ve very was wasn we were weren what when where which while who whom why will with
won would wouldn you your yours yourself yourselves also however thus hence etc well oh uh um
hmm
"""
_CHINESE = """
的 了 着 过 地 得 吗 呢 吧 啊 呀 哦 嗯 哎 唉 嘛 么 啦 呗 哈 之 乎 者 也 矣 而 且 及
与 和 跟 或 但 却 则 若 虽 因 故 所 以 于 把 被 将 让 给 对 向 往 从 由 在 到 为 这
那 此 其 该 某 每 各 就 都 还 又 再 才 便 只 很 太 更 最 挺 曾 已 正 要 会 能 可 应
当 是 有 个 些 样 我 你 您 们 咱 这个 那个 这些 那些 这样 那样 这么 那么 这里 那里 我们
你们 他们 她们 它们 咱们 自己 大家 什么 怎么 怎样 如何 为何 因为 所以 由于 因此 于是 然后 然而
但是 可是 不过 而且 并且 或者 还是 以及 如果 假如 要是 虽然 尽管 即使 只要 只有 除了 关于 对于
根据 按照 通过 为了 已经 曾经 正在 可以 能够 应该 应当 必须 需要 就是 只是 总之 其实 当然 等等
之类 一个 一些 一样 一般 有些 有的 所有 其中 其他 其它 例如 比如
"""
ENGLISH = frozenset(_ENGLISH.split())
CHINESE = frozenset(_CHINESE.split())
_LONGEST = max(map(len, CHINESE))


def only_stop_words(text: str) -> bool:
    """Whether a text holds nothing but punctuation, spaces and stop words (also: nothing).

    Numbers are no stop words, and signs of mathematics and money, arrows, stars and emoji are no
    punctuation.
    """
    if any(category(sign) in ("Sm", "So", "Sc") for sign in text):
        return False
    run = ""
    for word in [*tokens(text), ""]:
        if word and all(map(is_cjk, word)):
            run += word
            continue
        if not _is_chain(run) or (word and word not in ENGLISH):
            return False
        run = ""
    return True


def _is_chain(run: str) -> bool:
    """Whether a run of characters can be cut into Chinese stop words."""
    reached = [True, *[False] * len(run)]
    for end in range(1, len(run) + 1):
        reached[end] = any(
            reached[end - size] and run[end - size : end] in CHINESE
            for size in range(1, min(_LONGEST, end) + 1)
        )
    return reached[-1]
