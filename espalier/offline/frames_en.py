# ruff: noqa: E501 - a phrasing reads best on one line
"""The English open tasks of the offline teacher's Self-Instruct.

Slots are phrases of several words and the fixed parts are short, so that two instructions from
one frame are mostly novel by ROUGE-L at 0.7.
"""

from __future__ import annotations

from collections.abc import Mapping

from espalier.offline.family import Group
from espalier.offline.frame import Answer, Entry, Frame

_REMARKS = {
    "the bus is late again": "annoyed",
    "nobody came to my party": "sad",
    "we won the final match": "proud and happy",
    "there is a strange noise in the kitchen": "afraid",
    "the old dog died last night": "sad",
    "my sister passed her exam": "happy",
    "someone took my seat": "annoyed",
    "tomorrow I will meet the queen": "excited",
    "the soup is cold for the third time": "annoyed",
    "I have to speak before a hundred people": "nervous",
}
_SAYINGS = {
    "Better late than never": "Doing something late is better than not doing it at all.",
    "Many hands make light work": "Hard work gets easy when many people help.",
    "Look before you leap": "Think about the risk before you act.",
    "Practice makes perfect": "You get good at what you do often.",
    "The early bird catches the worm": "Who starts early gets the best chance.",
    "Every cloud has a silver lining": "There is something good in every bad thing.",
    "Haste makes waste": "Who hurries makes mistakes.",
    "Two heads are better than one": "Two people find better ideas than one alone.",
}
_CAUSES = {
    "you leave ice cream in the sun": "It melts.",
    "a plant gets no water for a month": "It dries out and dies.",
    "you drop a glass on a stone floor": "It breaks.",
    "nobody feeds the fire": "It goes out.",
    "you forget bread in the oven": "It burns.",
    "it rains all night on dry ground": "The ground turns to mud.",
    "you put salt into your tea instead of sugar": "The tea tastes bad.",
    "a phone is never charged": "Its battery runs empty.",
    "two drivers both want to go first": "They may crash or have to wait.",
    "you sleep only three hours": "You are tired all day.",
}
_WEIGHTS = {
    "a feather": 1, "a paper cup": 2, "a pencil": 3, "an apple": 4, "a full bottle": 5,
    "a house cat": 6, "a bicycle": 7, "a grown man": 8, "a piano": 9, "a small car": 10,
    "a city bus": 11, "a blue whale": 12,
}  # fmt: skip
_TRANSLATIONS = {
    "water": {"French": "eau", "Spanish": "agua", "German": "Wasser", "Italian": "acqua"},
    "bread": {"French": "pain", "Spanish": "pan", "German": "Brot", "Italian": "pane"},
    "house": {"French": "maison", "Spanish": "casa", "German": "Haus", "Italian": "casa"},
    "friend": {"French": "ami", "Spanish": "amigo", "German": "Freund", "Italian": "amico"},
    "night": {"French": "nuit", "Spanish": "noche", "German": "Nacht", "Italian": "notte"},
    "sun": {"French": "soleil", "Spanish": "sol", "German": "Sonne", "Italian": "sole"},
    "milk": {"French": "lait", "Spanish": "leche", "German": "Milch", "Italian": "latte"},
    "moon": {"French": "lune", "Spanish": "luna", "German": "Mond", "Italian": "luna"},
}
_WORDY = {
    "Due to the fact that it rained, we stayed at home": "It rained, so we stayed in",
    "She is a person who likes to read books": "She likes books",
    "At this point in time we have no answer": "We have no answer yet",
    "He made the decision to leave the town": "He decided to leave",
    "In my own opinion, I think the plan is good": "The plan is good",
    "The house is red in color and large in size": "The house is red and large",
    "They arrived at the station in a sudden way": "They suddenly arrived",
}
_FACTORS = {("hours", "minutes"): 60, ("days", "hours"): 24, ("meters", "centimeters"): 100,
            ("weeks", "days"): 7, ("kilograms", "grams"): 1000, ("years", "months"): 12}  # fmt: skip
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August",
           "September", "October", "November", "December")  # fmt: skip

VALUES: Mapping[str, tuple[str, ...]] = {
    "topic": (
        "the smell of rain", "a lost umbrella", "early trains", "city gardens",
        "learning to swim", "old letters", "fresh bread", "the night sky", "saving water",
        "a rainy holiday", "my first bicycle", "growing tomatoes", "long walks",
        "a broken clock", "winter mornings", "good neighbors", "quiet libraries",
        "cooking with beans", "a trip by boat", "loud parties", "sleeping well",
        "the price of milk", "a shy dog", "mountain air", "too much homework", "moving house",
        "public buses", "a birthday surprise", "recycled paper", "sea birds", "school lunches",
        "wooden toys", "solar power", "a chess club", "tea with friends", "learning Spanish",
        "weekend markets", "spilled coffee", "the last leaf", "busy airports", "summer storms",
        "honey bees", "small shops", "riding horses", "an empty beach", "family recipes",
    ),
    "audience": (
        "a five-year-old", "my grandmother", "new students", "a busy nurse", "tired parents",
        "visitors from abroad", "a football team", "the whole office", "complete beginners",
        "a very strict boss", "young farmers", "people who hate reading",
    ),
    "person": (
        "an old sailor", "a young doctor", "my neighbor", "a lonely king", "the village baker",
        "two sisters", "a tall waiter", "the new teacher", "a retired pilot", "my best friend",
        "a small girl", "the bus driver",
    ),
    "thing": (
        "a silver key", "a talking fish", "some old coins", "a wooden box", "a green hat",
        "an unsent letter", "a golden ring", "a jar of buttons", "a broken watch", "one red shoe",
        "a bag of seeds", "a very small door", "a warm blanket", "a long ladder",
    ),
    "tone": ("funny", "sad", "strange", "cheerful", "scary", "very calm"),
    "place": (
        "a train station", "the harbor", "a small kitchen", "an old museum", "the school yard",
        "a mountain hut", "our town library", "a crowded market", "the back garden",
        "a hospital room", "the city swimming pool", "a quiet office",
    ),
    "time": ("dawn", "midnight", "noon in August", "the end of winter", "closing time"),
    "event": (
        "the lift is broken", "lunch is free today", "we close at six", "dogs must stay outside",
        "the meeting starts late", "a blue coat was found", "the floor is wet",
        "new members are welcome", "the water is off until noon", "smoking is not allowed",
    ),
    "favor": (
        "lend me a tent", "return my books", "feed the cat on Sunday", "send the bill again",
        "check my homework", "move the car", "come an hour earlier", "bring a cake",
        "turn the radio down", "sign the two forms",
    ),
    "habit": (
        "walk to work", "eat more vegetables", "keep a diary", "learn a second language",
        "go to bed early", "plant a tree each year", "call old friends", "save a little money",
        "drink less coffee", "read before sleeping", "stretch every morning",
        "cook at home",
    ),
    "business": (
        "a bakery near the station", "a shop for used bicycles", "a school of dance",
        "a tea house by the lake", "a company that cleans windows", "a night taxi service",
        "a hotel for cats", "a farm that sells cheese", "a club of slow runners",
    ),
    "wish": (
        "is easy to remember", "sounds old and honest", "makes people smile",
        "has only two words", "starts with the letter B", "children would like",
    ),
    "product": (
        "warm socks", "a silent alarm clock", "organic apple juice", "folding chairs",
        "a bicycle lamp", "shampoo for dogs", "dark chocolate", "rain boots", "paper straws",
    ),
    "food": (
        "two eggs", "yesterday's rice", "a tin of beans", "some soft tomatoes", "an old cheese",
        "half a chicken", "three potatoes", "a handful of nuts", "frozen peas",
    ),
    "limit": (
        "I have ten minutes", "the oven is broken", "guests are coming", "I cannot eat salt",
        "there is no oil left", "the children are hungry",
    ),
    "word": (*_TRANSLATIONS, "garden", "winter", "yellow", "window", "silver", "bridge"),
    "translated": tuple(_TRANSLATIONS),
    "tongue": ("French", "Spanish", "German", "Italian"),
    "small": ("two", "three", "four", "five", "six"),
    "remark": tuple(_REMARKS),
    "saying": tuple(_SAYINGS),
    "cause": tuple(_CAUSES),
    "heavy": tuple(_WEIGHTS),
    "wordy": tuple(_WORDY),
    "many": ("12", "15", "18", "20", "24", "30", "36", "40"),
    "few": ("2", "3", "4", "5", "6", "7", "8", "9"),
    "goods": ("stamps", "red marbles", "comic books", "sea shells", "warm rolls", "tickets"),
    "first": ("Olga", "Pedro", "Mr. Brown", "Aunt May", "Captain Lee", "little Ravi", "Grandpa"),
    "problem": (
        "cold feet", "a noisy street", "hungry mice", "boring evenings", "a leaking roof",
        "long queues", "dusty shelves", "bad dreams",
    ),
    "role": (
        "a ship's cook", "a museum guide", "a weather reporter", "a strict judge",
        "a space traveler", "a shy gardener", "a famous singer", "a night guard",
    ),
    "situation": (
        "lost her job", "failed a driving test", "broke his favorite cup",
        "is afraid of flying", "moved far away", "has a new baby", "forgot my birthday",
        "argues with everybody", "cannot sleep at night",
    ),
    "polite": (
        "say no", "end a long phone call", "ask for a discount", "refuse a second helping",
        "correct a small mistake", "change the subject", "leave a party early",
    ),
    "feeling": ("tired", "nervous", "lonely", "bored", "a bit jealous", "confused"),
    "part": ("the verb", "the place", "the person", "the number", "the color"),
    "style": ("a question", "the past tense", "the future tense", "a negative sentence"),
    "vowel": ("a", "e", "i", "o"),
    "unit": tuple(f"{large} into {small}" for large, small in _FACTORS),
    "percent": ("10", "20", "25", "50", "75"),
    "hundreds": ("40", "80", "120", "200", "400", "600", "1000"),
    "day": tuple(str(day) for day in range(1, 29)),
    "month": _MONTHS,
    "rule": (
        "as if you were whispering", "using only short words", "with a surprising end",
        "in exactly one sentence", "without the letter z", "and start with the weather",
    ),
    "label": (
        "calm or angry", "formal or casual", "about work or about home", "a fact or an opinion",
    ),
}  # fmt: skip


def _bank(text: str, verb: str, place: str, person: str, number: str, color: str, past: str,
          future: str, question: str, negative: str, labels: str) -> Entry:  # fmt: skip
    names = dict(zip(VALUES["label"], labels.split(), strict=True))
    return {
        "input": text, "the verb": verb, "the place": place, "the person": person,
        "the number": number, "the color": color, "the past tense": past,
        "the future tense": future, "a question": question, "a negative sentence": negative,
        **names,
    }  # fmt: skip


_SENTENCES: tuple[Entry, ...] = (
    _bank("Clara buys three green apples in Boston.", "buys", "Boston", "Clara", "three",
          "green", "Clara bought three green apples in Boston.",
          "Clara will buy three green apples in Boston.",
          "Does Clara buy three green apples in Boston?",
          "Clara does not buy three green apples in Boston.", "calm formal home fact"),
    _bank("Victor paints two blue doors in Lyon.", "paints", "Lyon", "Victor", "two", "blue",
          "Victor painted two blue doors in Lyon.", "Victor will paint two blue doors in Lyon.",
          "Does Victor paint two blue doors in Lyon?",
          "Victor does not paint two blue doors in Lyon.", "calm formal work fact"),
    _bank("Dora sells nine white lamps in Kyoto.", "sells", "Kyoto", "Dora", "nine", "white",
          "Dora sold nine white lamps in Kyoto.", "Dora will sell nine white lamps in Kyoto.",
          "Does Dora sell nine white lamps in Kyoto?",
          "Dora does not sell nine white lamps in Kyoto.", "calm formal work fact"),
    _bank("Felix hates the five ugly brown chairs in Oslo!", "hates", "Oslo", "Felix", "five",
          "brown", "Felix hated the five ugly brown chairs in Oslo!",
          "Felix will hate the five ugly brown chairs in Oslo!",
          "Does Felix hate the five ugly brown chairs in Oslo?",
          "Felix does not hate the five ugly brown chairs in Oslo.",
          "angry casual home opinion"),
    _bank("Hey, Iris cooks four yummy red fish in Quito!", "cooks", "Quito", "Iris", "four",
          "red", "Iris cooked four yummy red fish in Quito!",
          "Iris will cook four yummy red fish in Quito!",
          "Does Iris cook four yummy red fish in Quito?",
          "Iris does not cook four yummy red fish in Quito.", "calm casual home opinion"),
)  # fmt: skip


def _convert(slots: Mapping[str, str], _: Entry) -> str:
    large, small = slots["unit"].split(" into ")
    factor = _FACTORS.get((large, small))
    return (
        "I do not know these units." if factor is None else f"{int(slots['few']) * factor} {small}"
    )


def _heavier(slots: Mapping[str, str], _: Entry) -> str:
    pair = (slots["heavy"], slots["heavy2"])
    best = max(pair, key=lambda item: _WEIGHTS.get(item, 0))
    return f"{best[:1].upper()}{best[1:]}, because it is much bigger."


def _date(slots: Mapping[str, str], _: Entry) -> str:
    month = _MONTHS.index(slots["month"]) + 1 if slots["month"] in _MONTHS else 1
    return f"{month:02d}-{int(slots['day']):02d}"


def _letters(slots: Mapping[str, str], _: Entry) -> str:
    return " ".join(slots["word"])


def _stars(slots: Mapping[str, str], _: Entry) -> str:
    return slots["word"].replace(slots["vowel"], "*")


def _of(table: Mapping[str, str], slot: str) -> Answer:
    return lambda slots, _: table.get(slots[slot], f"It depends on {slots[slot]}.")


def _translated(slots: Mapping[str, str], _: Entry) -> str:
    return _TRANSLATIONS.get(slots["translated"], {}).get(slots["tongue"], slots["translated"])


def _asked(slot: str) -> Answer:
    return lambda slots, entry: entry.get(slots[slot], "I cannot find it in the text.")


def _frame(group: Group, text: str, answer: Answer, inputs: tuple[Entry, ...] = ()) -> Frame:
    return Frame("en", group, text, answer, VALUES, inputs)


def _labelled(text: str, answer: Answer, inputs: tuple[Entry, ...]) -> Frame:
    return Frame("en", "understanding", text, answer, VALUES, inputs, labelled=True)


def _sorted(labels: Mapping[str, tuple[str, ...]]) -> tuple[Entry, ...]:
    """Inputs to classify, from the inputs of each label."""
    return tuple(
        {"input": text, "label": label} for label, texts in labels.items() for text in texts
    )


def _label(_: Mapping[str, str], entry: Entry) -> str:
    return entry.get("label", "I cannot tell.")


_REVIEWS = _sorted({
    "positive": (
        "Two years of daily use, and it still looks like new.",
        "I bought a second one for my mother, who smiles whenever she sees it.",
    ),
    "negative": (
        "It came apart on the second day, and nobody answered my letter.",
        "I asked for my money back within an hour.",
    ),
})  # fmt: skip
_MESSAGES = _sorted({
    "question": ("Are you open on the first of May?", "Does the price include the delivery?"),
    "complaint": ("I waited for forty minutes and was then sent home.",
                  "The second invoice is wrong as well."),
    "thanks": ("Your colleague found my scarf, how kind of her!",
               "What a lovely afternoon we had, see you next year."),
})  # fmt: skip
_FINDS = _sorted({
    "food": ("half a loaf of rye bread", "a bag of dried plums"),
    "tool": ("a rusty pair of pliers", "a folding saw"),
    "animal": ("a hedgehog under the stairs", "two sleeping moths"),
})  # fmt: skip
_CLAIMS = _sorted({
    "true": ("A week has seven days.", "Ice is lighter than the water it floats on."),
    "false": ("The sun rises in the west.", "A spider has four legs."),
})  # fmt: skip


FRAMES_EN: tuple[Frame, ...] = (
    _frame("generation", "[Write|Compose] a [short|gentle|four-line] poem about {topic} for {audience}.",
           "{Topic}, so near and so small, you are the best friend of all."),
    _frame("generation", "Tell a {tone} story in which {person} finds {thing}.",
           "One day {person} found {thing} and kept it safe until spring."),
    _frame("generation", "[Suggest|Invent|Find] a name for {business} that {wish}.",
           "I would call {business} \"Bright Morning\"."),
    _frame("generation", "Write [an email|a polite note] asking {person} to {favor}.",
           "Dear friend, could you please {favor}? Thank you very much."),
    _frame("generation", "Give {small} good reasons to {habit}.",
           "It is healthy, it is cheap, and you feel better when you {habit}."),
    _frame("generation", "Put up a notice in {place}: {event}.",
           "Please note: {event}. Thank you for your patience."),
    _frame("generation", "Create a slogan for {product} in at most {small} words.",
           "{Product}: simply better."),
    _frame("generation", "What could I cook with {food} and {food2} when {limit}?",
           "Fry {food} together with {food2} and add some pepper."),
    _frame("generation", "Describe {place} at {time}, {rule}.",
           "At {time}, {place} is calm and smells of rain."),
    _frame("generation", "Begin a letter from {person} to {audience} about {thing}.",
           "Dear reader, you will not believe what I did with {thing}."),
    _frame("generation", "Come up with {small} questions for a quiz on {topic}.",
           "When did {topic} begin? Who likes {topic} most?"),
    _labelled("Is the text below {label}?", _asked("label"), _SENTENCES),
    _labelled("Is the review by {person} who bought {product} positive or negative?", _label,
              _REVIEWS),
    _labelled("Question, complaint or thanks: what did {person} send to {business}?", _label,
              _MESSAGES),
    _labelled("What {person} found in {place}: is it food, a tool or an animal?", _label, _FINDS),
    _labelled("Said in {place} about {topic}: true or false?", _label, _CLAIMS),
    _frame("understanding", "[Find|Name|Underline] {part} in the given sentence.",
           _asked("part"), _SENTENCES),
    _frame("understanding", "How does somebody feel who says that {remark}?",
           _of(_REMARKS, "remark")),
    _frame("understanding", "Explain the saying \"{saying}\" to {audience}.",
           _of(_SAYINGS, "saying")),
    _frame("understanding", "Say in one sentence why {audience} might enjoy {topic}.",
           "They enjoy it because {topic} brings a little joy."),
    _frame("understanding", "Pick a title for a text about {topic} and {topic2}.",
           "\"{Topic} and {topic2}\""),
    _frame("understanding", "What do {topic} and {topic2} have in common?",
           "Both can make an ordinary day better."),
    _frame("understanding", "Who would complain first about {topic}: {person} or {audience}?",
           "I think {person} would complain first."),
    _frame("understanding", "Name the main idea behind \"{saying}\" [in your own words|using plain words].",
           _of(_SAYINGS, "saying")),
    _frame("reasoning", "{first} has {many} {goods} and gives away {few}. How many are left?",
           lambda slots, _: str(int(slots["many"]) - int(slots["few"]))),
    _frame("reasoning", "If one of the {goods} costs {few} dollars, what must {first} pay for {many}?",
           lambda slots, _: f"{int(slots['few']) * int(slots['many'])} dollars"),
    _frame("reasoning", "Which is heavier, {heavy} or {heavy2}, and why?", _heavier),
    _frame("reasoning", "What happens if {cause}?", _of(_CAUSES, "cause")),
    _frame("reasoning", "Why is it wise to {habit} before you {habit2}?",
           "Because you have more strength for it when you {habit} first."),
    _frame("reasoning", "Which helps more against {problem}, {thing} or {thing2}? Give one reason.",
           "{Thing}, because it is easier to use against {problem}."),
    _frame("reasoning", "Compute {percent} percent of {hundreds} [step by step|in your head].",
           lambda slots, _: f"{int(slots['percent']) * int(slots['hundreds']) / 100:g}"),
    _frame("reasoning", "{first} started at {few} o'clock and worked {few2} hours without a break; "
           "when was the work done?",
           lambda slots, _: f"At {(int(slots['few']) + int(slots['few2']) - 1) % 12 + 1} o'clock."),
    _frame("reasoning", "Can {person} carry {heavy} through {place} alone?",
           lambda slots, _: "No, it is too heavy." if _WEIGHTS.get(slots["heavy"], 0) > 6
           else "Yes, it is light enough."),
    _frame("dialogue", "Pretend to be {role} and talk with {person} about {topic}.",
           "Good evening! As {role} I can tell you a lot about {topic}."),
    _frame("dialogue", "My friend {situation}. What should I say[| now| to help]?",
           "Say: I am here for you, tell me how it is for someone who {situation}."),
    _frame("dialogue", "How do I politely {polite} when I am with {audience}?",
           "Smile, thank them, and then {polite} in a kind voice."),
    _frame("dialogue", "Recommend a gift for {person} who cares about {topic}.",
           "A small book about {topic} would be nice."),
    _frame("dialogue", "I feel {feeling} because of {topic}. Cheer me up, please!",
           "You are not alone: {topic} will soon look brighter."),
    _frame("dialogue", "Answer like {role}: where can I buy {thing}?",
           "Well, {thing} is hard to find, but try the market at dawn."),
    _frame("dialogue", "Help {person} to choose between {product} and {product2}.",
           "Take {product}, you will use them more often."),
    _frame("dialogue", "{person} wants to {habit} but {situation}. Any advice?",
           "Start small: {habit} once a week and be patient."),
    _frame("transformation", "Rewrite the sentence below as {style}.", _asked("style"), _SENTENCES),
    _frame("transformation", "Translate the word \"{translated}\" into {tongue}.", _translated),
    _frame("transformation", "[Change|Convert] {few} {unit}.", _convert),
    _frame("transformation", "Say this with fewer words: {wordy}.", _of(_WORDY, "wordy")),
    _frame("transformation", "[Write|Express] the date {month} {day} [only with digits|in the form MM-DD].",
           _date),
    _frame("transformation", "Spell \"{word}\" with a space after each letter.", _letters),
    _frame("transformation", "Replace each letter {vowel} in \"{word}\" by a star.", _stars),
    _frame("transformation", "Turn \"{event}\" into a [rude|friendly|formal] message from {person} to {audience}.",
           "Dear all, {event}. Best wishes!"),
    _frame("transformation", "Join {food}, {product} and {thing} into one list with dashes.",
           "{food} - {product} - {thing}"),
)  # fmt: skip

FORBIDDEN_EN: tuple[str, ...] = (
    "Draw a picture of {thing} in {place}.",
    "Plot a graph of the price of {product} over a year.",
    "Open the file about {topic} and count its lines.",
    "Find {place} on the map and mark it in red.",
    "Describe what {person} does in the image below.",
    "Go to the website of {business} and order {product}.",
    "Write a program that sorts {goods} by price.",
    "Look at these two pictures of {topic} and compare them.",
)
MALFORMED_EN: tuple[str, ...] = (
    "Write poem.", "Why not?", "... about {topic} and so on with it", "Sing {topic}",
    "- {habit} and then {habit2} again", "?",
)  # fmt: skip
