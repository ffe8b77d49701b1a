"""Words to make keys, lists and stories of: no pair of adjective and noun, and no name, stands inside another one."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["ADJECTIVES", "NAMES", "NOUNS", "pairs"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    "amber ancient autumn awkward bitter blue brave brisk broken bronze busy calm careful cheap chilly clever "
    "cold copper crimson curious curly damp dark deep distant dusty early eastern elegant empty faded fancy "
    "fierce foggy forgotten fragile frozen gentle giant golden grand green grey happy heavy hidden hollow honest "
    "humble icy idle ivory jolly late lazy little lively lonely loud lucky marble mellow modern muddy narrow neat "
    "noble noisy northern odd orange pale patient plain polite proud purple quick quiet rapid rare rough round "
    "royal rustic salty scarlet secret shallow sharp shiny silent silver simple sleepy slow smooth soft solid "
    "southern spotted square steep stormy striped strong sturdy sunny swift tall thin tidy tiny tired velvet "
    "violet warm weary western wide wild windy wise wooden yellow young"
)

NOUNS = _words(
    "acorn anchor apple arrow badger bakery balloon banjo barrel basket beacon beaver bell bench bicycle blanket "
    "boulder bridge bucket button cabin camel candle canoe carpet castle cellar chapel cherry chimney circus "
    "clock cottage cousin cradle crayon cricket curtain daisy desert dolphin donkey dragon drawer drum eagle "
    "engine falcon feather fiddle finger flower forest fountain garden giraffe glacier goblet guitar hammer "
    "harbour hedge helmet heron island jacket jungle kettle kitchen kitten ladder lantern lemon library lizard "
    "lobster magnet maple market meadow mirror mitten monkey mountain museum napkin needle notebook ocean orchard "
    "otter oyster painter palace parrot peach pebble pelican pencil pepper piano pigeon pillow pirate planet "
    "pocket pony potato puppet puzzle pyramid rabbit raven ribbon river robin rocket saddle sailor salmon sandal "
    "saucer scarf school scooter shadow shovel signal swallow spider spoon squirrel stable statue station summit "
    "teapot temple theatre ticket tiger timber tower tractor trumpet tulip tunnel turtle umbrella valley village "
    "violin wagon walnut whistle widow willow window wizard"
)

#: Given names; none is another English word, or a place.
NAMES = _words(
    "Adele Agnes Boris Bruno Cecilia Clara Dmitri Doris Edith Emil Fabian Frieda Greta Gustav Helena Hugo Ingrid Ivan "
    "Jonas Judith Katrin Klaus Lorenz Lukas Marta Nadia Nora Oscar Otto Paula Philippa Quentin Rosalind Rupert Sonja "
    "Stefan Tamara Theodor Ulrich Ursula Vera Viktor Walter Wanda Xenia Yusuf Yvonne Zelda"
)


@lru_cache(maxsize=1)
def pairs() -> tuple[str, ...]:
    """Every adjective with every noun, such as ``amber kettle``."""
    return tuple(f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS)
