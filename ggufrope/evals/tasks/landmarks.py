"""What many people know of places: landmarks with their cities and countries."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LANDMARKS", "Landmark"]


@dataclass(frozen=True, slots=True)
class Landmark:
    """A sight, as it stands in a sentence (``the Atomium``), and where it is.

    Attributes:
        name: with its article.
        city: one step of knowledge away.
        country: two steps away.
    """

    name: str
    city: str
    country: str


#: One for each country, so that a country tells which of them is meant.
LANDMARKS = tuple(
    Landmark(*row.split(" | "))
    for row in (
        "the Eiffel Tower | Paris | France",
        "the Colosseum | Rome | Italy",
        "the Brandenburg Gate | Berlin | Germany",
        "Big Ben | London | England",
        "the Sagrada Familia | Barcelona | Spain",
        "the Acropolis | Athens | Greece",
        "the Bolshoi Theatre | Moscow | Russia",
        "the Hagia Sophia | Istanbul | Turkey",
        "Tahrir Square | Cairo | Egypt",
        "the Taj Mahal | Agra | India",
        "the Forbidden City | Beijing | China",
        "the Shibuya Crossing | Tokyo | Japan",
        "the Golden Gate Bridge | San Francisco | the United States",
        "Christ the Redeemer | Rio de Janeiro | Brazil",
        "the Little Mermaid | Copenhagen | Denmark",
        "the Charles Bridge | Prague | the Czech Republic",
        "the Schönbrunn Palace | Vienna | Austria",
        "the Belém Tower | Lisbon | Portugal",
        "the Atomium | Brussels | Belgium",
        "the Rijksmuseum | Amsterdam | the Netherlands",
        "the Petronas Towers | Kuala Lumpur | Malaysia",
        "the Burj Khalifa | Dubai | the United Arab Emirates",
        "the CN Tower | Toronto | Canada",
        "Bondi Beach | Sydney | Australia",
        "Table Mountain | Cape Town | South Africa",
        "the Matterhorn | Zermatt | Switzerland",
        "Wawel Castle | Kraków | Poland",
        "the Vasa Museum | Stockholm | Sweden",
        "the Fisherman's Bastion | Budapest | Hungary",
        "Wat Arun | Bangkok | Thailand",
        "the Gyeongbokgung Palace | Seoul | South Korea",
        "the Temple Bar | Dublin | Ireland",
        "Angkor Wat | Siem Reap | Cambodia",
        "the Hallgrímskirkja | Reykjavik | Iceland",
        "the Holmenkollen ski jump | Oslo | Norway",
        "the Suomenlinna fortress | Helsinki | Finland",
    )
)
