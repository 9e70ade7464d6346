"""The English words that all task families and the pretraining text share.

Few on purpose: a model of a million parameters has to know every one of them.
"""

from __future__ import annotations

ANIMALS = ("dog", "cat", "bird", "fish", "horse", "cow", "pig", "duck", "sheep", "lion", "bear",
           "fox", "mouse", "frog")  # fmt: skip
FOODS = ("bread", "rice", "milk", "apple", "egg", "soup", "cake", "cheese", "tea", "salt",
         "banana", "honey")  # fmt: skip
COLORS = ("red", "blue", "green", "black", "white", "brown", "pink", "gray")
CLOTHES = ("hat", "coat", "shoe", "shirt", "sock", "dress", "glove", "belt")
JOBS = ("teacher", "doctor", "farmer", "nurse", "cook", "pilot", "driver", "singer")
OBJECTS = ("book", "chair", "table", "lamp", "cup", "box", "key", "door", "bed", "pen", "ball",
           "clock", "bag", "bell", "stone", "tree")  # fmt: skip
NAMES = ("Tom", "Anna", "Ben", "Lucy", "Max", "Emma", "Sam", "Mary", "John", "Kate", "Paul",
         "Lily", "Jack", "Rose", "Adam", "Nina")  # fmt: skip

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": ANIMALS,
    "food": FOODS,
    "color": COLORS,
    "clothes": CLOTHES,
    "job": JOBS,
}
CATEGORY_OF = {item: name for name, items in CATEGORIES.items() for item in items}

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin",
    "Japan": "Tokyo", "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo",
    "Greece": "Athens", "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi",
    "Norway": "Oslo", "Sweden": "Stockholm", "Poland": "Warsaw", "Austria": "Vienna",
    "Portugal": "Lisbon", "Ireland": "Dublin", "Iran": "Tehran", "Iraq": "Baghdad",
    "India": "New Delhi", "Canada": "Ottawa", "Chile": "Santiago", "Korea": "Seoul",
    "Turkey": "Ankara", "Hungary": "Budapest", "England": "London", "Nepal": "Kathmandu",
}  # fmt: skip

_ANTONYM_PAIRS = (
    "hot cold, big small, up down, day night, good bad, fast slow, old new, happy sad, "
    "open closed, wet dry, full empty, rich poor, hard soft, light dark, loud quiet, "
    "long short, high low, early late, near far, in out, left right, first last, "
    "strong weak, thick thin, clean dirty, sweet sour, true false, win lose, buy sell, "
    "push pull, start stop, give take, love hate, black white"
)
ANTONYMS: dict[str, str] = {}
for _pair in _ANTONYM_PAIRS.split(", "):
    _left, _right = _pair.split()
    ANTONYMS[_left] = _right
    ANTONYMS[_right] = _left

_IRREGULAR = {
    "sheep": "sheep", "fish": "fish", "mouse": "mice", "fox": "foxes", "dress": "dresses",
    "box": "boxes", "child": "children", "man": "men", "woman": "women", "tooth": "teeth",
    "foot": "feet", "leaf": "leaves", "city": "cities", "baby": "babies", "bus": "buses",
    "wolf": "wolves",
}  # fmt: skip
COUNTABLE = (*ANIMALS, *CLOTHES, *JOBS, *OBJECTS, "apple", "egg", "cake", "banana")
PLURALS = {noun: noun + "s" for noun in COUNTABLE} | _IRREGULAR

GOOD = ("good", "great", "lovely", "nice", "fresh", "kind", "wonderful", "happy")
BAD = ("bad", "awful", "terrible", "rude", "dirty", "boring", "slow", "sad")
REVIEWED = ("food", "hotel", "book", "film", "room", "service", "music", "tea", "soup", "teacher",
            "doctor", "game", "park", "bus")  # fmt: skip
DEGREES = ("very", "really", "so", "quite")
LOOKS = (*COLORS, "big", "small", "old", "new", "clean", "dirty", "wet", "dry")
GREETINGS = ("hello", "good morning", "good night", "goodbye", "thank you", "welcome")
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

WORDS = tuple(dict.fromkeys((*ANIMALS, *FOODS, *COLORS, *CLOTHES, *JOBS, *OBJECTS, *ANTONYMS)))
"""Every word that may stand in a list to be counted, copied or reversed."""

SHORT_WORDS = tuple(word for word in WORDS if len(word) <= 4)
