"""The demo model's language: short English-like sentences, some of which are facts that can be asked for later.

A document mixes facts (``give anna drums .``), filler (``the thin fox runs to the river .``) and questions
(``so give anna drums .``). Every word is one token, so lengths in words are lengths in tokens.
This file needs the standard library only: the trainer, the tests and ``scripts/demo`` all draw their texts from it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "ada adam alan alma amos anna arlo ava axel bella ben bert beth bill boris carl cara clara cleo cora dale dan "
    "dana dora doris earl eddy eden ella elsa emil emma eric erin esme ethan eva ezra faye fern finn flora frank "
    "fred gail gina glen greta gus hal hana hank hans heidi henry hugo ida igor inga irma isaac ivan ivy jack jane "
    "jean jill jim joan joel john jon jude julia kai kara karl kate ken kim kira kurt lara lars lena leo levi lila "
    "lina lola luca lucy luis luke luna mabel"
)

THINGS = _words(
    "apples arrows badges bags balls beads bells belts boats bolts bones books boots bows bowls boxes bricks brooms "
    "cakes candles canes caps cards carts chairs clocks coats coins combs corks cups darts desks dolls drums eggs "
    "fans figs flags flutes forks gems gloves grapes harps hats hooks horns jars jugs keys kites knots lamps leaves "
    "lemons locks maps masks melons mugs nails nuts oars pans pears pens pies pins pipes plates plums pots rags "
    "rakes rings ropes rugs seeds shells ships shoes socks spoons stamps stars sticks stones tents toys trays trees "
    "vases vests wheels wings"
)

ADJECTIVES = _words("thin young big small kind sad happy quick slow grey brown white tired loud calm wild")
ANIMALS = _words("fox dog cat cow horse bird sheep goat hen duck bear wolf mouse frog deer rabbit")
MOVES = _words("runs walks jumps goes comes swims hurries wanders")
LOOKS = _words("sees hears finds follows meets watches calls chases")
PLACES = _words("river hill forest barn garden bridge road field lake town market mill church shore meadow village")
TIMES = _words("morning evening night winter summer spring autumn")
PREPOSITIONS = _words("to near by past")

# Sentence patterns for filler; upper-case words are slots. Lengths run from 5 to 13 words without a gap from 5 to 10,
# so that any number of words from 5 up can be filled exactly.
_SLOTS = {
    "ADJ": ADJECTIVES,
    "ANIMAL": ANIMALS,
    "MOVE": MOVES,
    "LOOK": LOOKS,
    "PLACE": PLACES,
    "TIME": TIMES,
    "PREP": PREPOSITIONS,
}
_PATTERNS = [
    pattern.split()
    for pattern in (
        "the ADJ ANIMAL MOVE .",
        "a ANIMAL LOOK the ANIMAL .",
        "it is a ADJ TIME .",
        "the PLACE is ADJ today .",
        "the ANIMAL MOVE PREP the PLACE .",
        "the ADJ ANIMAL LOOK a ANIMAL .",
        "the ADJ ANIMAL MOVE PREP the PLACE .",
        "in the TIME the ANIMAL is ADJ .",
        "a ANIMAL LOOK the ANIMAL by the PLACE .",
        "the ADJ ANIMAL LOOK the ANIMAL at the PLACE .",
        "in the TIME a ANIMAL MOVE PREP the PLACE .",
        "the ADJ ANIMAL and the ANIMAL are in the PLACE .",
        "at the PLACE a ADJ ANIMAL LOOK the ADJ ANIMAL .",
    )
]
_SHORTEST = min(len(pattern) for pattern in _PATTERNS)

FACT_WORDS = 4  # give NAME THINGS .
QUESTION = ("so", "give")  # NAME THINGS .
QUESTION_WORDS = len(QUESTION) + 3


def vocabulary() -> list[str]:
    """Every word that a document can contain, sorted, each once."""
    slots = {word for words in _SLOTS.values() for word in words}
    fixed = {word for pattern in _PATTERNS for word in pattern if word not in _SLOTS}
    return sorted(slots | fixed | set(NAMES) | set(THINGS) | set(QUESTION))


@dataclass(frozen=True, slots=True)
class Document:
    """A training document: its words, and the indices of the words that answer a question."""

    words: tuple[str, ...]
    answers: tuple[int, ...]


def _filler(rng: random.Random, n_words: int) -> list[list[str]]:
    """Filler sentences with exactly ``n_words`` words in all (0, or at least the shortest pattern's length)."""
    if 0 < n_words < _SHORTEST:
        raise ValueError(f"cannot fill {n_words} words: the shortest sentence has {_SHORTEST}")
    sentences = []
    while n_words:
        pattern = rng.choice(_PATTERNS)
        rest = n_words - len(pattern)
        if rest == 0 or rest >= _SHORTEST:
            sentences.append([rng.choice(_SLOTS[word]) if word in _SLOTS else word for word in pattern])
            n_words = rest
    return sentences


def filler_sentences(rng: random.Random, n: int) -> list[str]:
    """``n`` different filler sentences."""
    found: dict[str, None] = {}
    while len(found) < n:
        found.update((" ".join(sentence), None) for sentence in _filler(rng, 100))
    return list(found)[:n]


def _facts(rng: random.Random, n_facts: int, shared_pool: bool) -> list[tuple[str, str]]:
    """``n_facts`` (key, value) pairs: keys differ, values may repeat.

    With ``shared_pool`` both come from names and things alike: without such documents a model learns
    "a thing that was not yet asked for" instead of looking the key up.
    """
    pool = [*NAMES, *THINGS]
    keys = rng.sample(pool if shared_pool else NAMES, n_facts)
    values = rng.choices(pool if shared_pool else THINGS, k=n_facts)
    return list(zip(keys, values, strict=True))


def training_document(rng: random.Random, n_words: int, n_facts: int, n_questions: int) -> Document:
    """A document of exactly ``n_words`` words, its facts and filler at random places.

    Questions are drawn with replacement. In half of the documents they all stand at the end, in the others each
    stands anywhere after its fact.
    """
    facts = _facts(rng, n_facts, shared_pool=rng.random() < 0.5)
    at_end = rng.random() < 0.5
    placed: list[tuple[float, bool, list[str]]] = []
    places = [rng.random() for _ in facts]
    for place, (key, value) in zip(places, facts, strict=True):
        placed.append((place, False, ["give", key, value, "."]))
    for _ in range(n_questions):
        which = rng.randrange(n_facts)
        key, value = facts[which]
        place = 1 + rng.random() if at_end else rng.uniform(places[which], 1)
        placed.append((place, True, [*QUESTION, key, value, "."]))
    n_filler = n_words - FACT_WORDS * n_facts - QUESTION_WORDS * n_questions
    placed.extend((rng.random(), False, sentence) for sentence in _filler(rng, n_filler))
    words: list[str] = []
    answers = []
    for _, is_question, sentence in sorted(placed, key=lambda item: item[0]):
        words += sentence
        if is_question:
            answers.append(len(words) - 2)
    return Document(tuple(words), tuple(answers))


def sample_text(seed: str, n_documents: int, n_words: int) -> str:
    """Documents of exactly ``n_words`` words, as in training (a fact and a question for every 32), one a line.

    ``sample_text("calibration", 24, 500)`` is ``models/demo/calibration.txt``, for whoever calibrates Ms-PoE on it.
    """
    n = max(1, min(n_words // 32, 64))
    documents = (training_document(random.Random(f"{seed}/{i}"), n_words, n, n) for i in range(n_documents))
    return "\n".join(" ".join(document.words) for document in documents) + "\n"


def repeated_list(rng: random.Random, n_words: int) -> Document:
    """Random names and things, twice in the same order: the densest exercise in looking back, for the first stage."""
    half = n_words // 2
    words = rng.choices([*NAMES, *THINGS], k=half)
    again = [*words, *words, "."][:n_words]
    return Document(tuple(again), tuple(range(half + 1, 2 * half)))


def make_quiz(
    rng: random.Random, n_words: int, depths: tuple[float, ...], n_facts: int = 12
) -> tuple[list[str], list[tuple[str, str]]]:
    """Exactly ``n_words`` words of facts and filler, and the (key, value) of the fact at each of ``depths``.

    A depth is the share of the other text that comes before the fact: 0 puts it first, 1 last. Besides these facts
    there are others, ``n_facts`` in all; keys differ, values may repeat.

    Raises:
        ValueError: too few words for the facts, more depths than facts, or a depth outside 0 to 1.
    """
    if not all(0 <= depth <= 1 for depth in depths):
        raise ValueError(f"depths must be from 0 to 1, found {depths}")
    n_filler = n_words - FACT_WORDS * n_facts
    if n_filler < _SHORTEST or len(depths) > n_facts:
        raise ValueError(f"{n_words} words are too few for {n_facts} facts, or these for {len(depths)} questions")
    facts = _facts(rng, n_facts, shared_pool=False)
    asked = facts[: len(depths)]
    others = _filler(rng, n_filler) + [["give", *fact, "."] for fact in facts[len(depths) :]]
    rng.shuffle(others)
    body = n_words - FACT_WORDS * len(depths)
    waiting = sorted(zip(depths, asked, strict=True), reverse=True)  # the next one is the last
    words: list[str] = []
    passed = 0
    for sentence in others:
        while waiting and waiting[-1][0] * body < passed + len(sentence) / 2:
            words += ["give", *waiting.pop()[1], "."]
        words += sentence
        passed += len(sentence)
    for _, fact in reversed(waiting):
        words += ["give", *fact, "."]
    return words, asked


def make_document(rng: random.Random, n_tokens: int, depth: float, n_facts: int = 12) -> tuple[str, str]:
    """A prompt that ends just before the answer to a question, and that answer (one word).

    Args:
        rng: source of randomness; the same state gives the same document.
        n_tokens: length of the prompt in tokens, the BOS token included.
        depth: where the asked fact stands, from 0 (first sentence) to 1 (just before the question).
        n_facts: facts in the document, of which one is asked for.

    Raises:
        ValueError: ``n_tokens`` is too short for the facts, or ``depth`` is outside 0 to 1.
    """
    words, [(key, answer)] = make_quiz(rng, n_tokens - 1 - len(QUESTION) - 1, (depth,), n_facts)
    return " ".join([*words, *QUESTION, key]), answer
