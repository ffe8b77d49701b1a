"""A strict reading of a page: every element closed in order, nothing from elsewhere, no scripts."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Checked(HTMLParser):
    """Reads a page; ``wrong`` lists what no page of ours may have."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: dict[str, int] = {}
        self.texts: list[str] = []
        self.titles: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)
        self.close()
        self.wrong += [f"{tag} is not closed" for tag in self.open]
        self.wrong += [f"#{name} leads nowhere" for name in self.links - self.ids]

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attribute(tag, name, value)

    def attribute(self, tag, name, value):
        if name.startswith("on") or (
            name in {"src", "href", "xlink:href", "action", "data"} and not value.startswith("#")
        ):
            self.wrong.append(f"{tag} has {name}={value!r}")
        if name == "href":
            self.links.add(value[1:])
        if name == "id":
            if value in self.ids:
                self.wrong.append(f"#{value} is there twice")
            self.ids.add(value)
        if name == "title":
            self.titles.append(value)
        if name == "style" and ("url" in value or "expression" in value):
            self.wrong.append(f"{tag} has style={value!r}")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        self.wrong.append(f"a comment: {data}")
