"""The Chinese words that all task families and the pretraining text share (one character each
where that is natural, so that a tiny model can know them all)."""

from __future__ import annotations

ANIMALS = tuple("狗猫鸟鱼马牛羊猪鸡兔虎蛇")
FOODS = tuple("茶米面蛋糖盐瓜菜饭汤奶肉")
COLORS = tuple("红蓝绿黑白黄灰紫")
NATURE = tuple("山水火风雨雪月星云海")
OBJECTS = tuple("书笔灯门床杯车花树石帽鞋")
NAMES = ("小明", "小红", "小华", "小丽", "小刚", "小芳", "小军", "小美", "老王", "老李", "老张",
         "大山", "小雪", "小云")  # fmt: skip

CATEGORIES: dict[str, tuple[str, ...]] = {
    "动物": ANIMALS,
    "食物": FOODS,
    "颜色": COLORS,
    "自然": NATURE,
}
CATEGORY_OF = {item: name for name, items in CATEGORIES.items() for item in items}

_ANTONYM_PAIRS = (
    "大小 高低 长短 多少 冷热 新旧 快慢 上下 左右 前后 里外 开关 好坏 远近 早晚 轻重 黑白 男女 "
    "买卖 进出 厚薄 强弱 真假 胖瘦 哭笑 粗细 软硬 贫富 爱恨 甜苦 明暗 生死"
)
ANTONYMS: dict[str, str] = {}
for _pair in _ANTONYM_PAIRS.split():
    ANTONYMS[_pair[0]] = _pair[1]
    ANTONYMS[_pair[1]] = _pair[0]

MEASURES = {
    "书": "本", "笔": "支", "灯": "盏", "门": "扇", "床": "张", "车": "辆", "花": "朵",
    "树": "棵", "石": "块", "帽": "顶", "鞋": "双", "狗": "只", "猫": "只", "鸟": "只",
    "鱼": "条", "马": "匹", "牛": "头", "羊": "只", "猪": "头", "鸡": "只", "兔": "只",
    "虎": "只", "蛇": "条", "糖": "块", "云": "朵", "山": "座",
}  # fmt: skip

ENGLISH = {
    "狗": "dog", "猫": "cat", "鸟": "bird", "鱼": "fish", "马": "horse", "牛": "cow",
    "羊": "sheep", "猪": "pig", "茶": "tea", "米": "rice", "蛋": "egg", "盐": "salt",
    "汤": "soup", "奶": "milk", "红": "red", "蓝": "blue", "绿": "green", "黑": "black",
    "白": "white", "灰": "gray", "书": "book", "笔": "pen", "灯": "lamp", "门": "door",
    "床": "bed", "杯": "cup", "树": "tree", "石": "stone", "帽": "hat", "鞋": "shoe",
    "大": "big", "小": "small", "冷": "cold", "热": "hot", "新": "new", "旧": "old",
    "好": "good", "坏": "bad", "快": "fast", "慢": "slow", "上": "up", "下": "down",
    "高": "high", "低": "low", "长": "long", "短": "short", "爱": "love", "恨": "hate",
    "买": "buy", "卖": "sell",
}  # fmt: skip

GOOD = ("好", "美", "棒", "甜", "新", "快")
BAD = ("坏", "差", "糟", "苦", "旧", "慢")
LIKED = ("喜欢", "爱")
DISLIKED = ("讨厌", "恨")
REVIEWED = ("菜", "书", "茶", "汤", "车", "花", "饭", "房间", "老师", "电影", "服务", "音乐")
DEGREES = ("很", "真", "太", "非常")
GREETINGS = ("你好", "早上好", "晚安", "再见", "谢谢", "欢迎")

WORDS = tuple(dict.fromkeys((*ANIMALS, *FOODS, *COLORS, *NATURE, *OBJECTS, *ANTONYMS)))
"""Every one-character word that may stand in a list to be counted, copied or reversed."""
