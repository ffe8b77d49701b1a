"""Notes: every sentence has its code, whether a line of results says so or is older than the codes."""

from __future__ import annotations

import pytest

from ggufrope.evals import notes
from ggufrope.evals.notes import Note, NoteCode, read_notes

# only in lines from before few texts got intervals by Student's t
OLD = Note("narrow-interval", "a bootstrap over fewer than 10 texts gives intervals that are too narrow for 95%")
EVERY = [
    notes.beyond_context(1024, 512),
    notes.baseline_beyond_context(512),
    notes.fewer_texts_in_file(3, 9),
    notes.fewer_texts_in_text(5, 600, 9),
    notes.one_text(),
    OLD,
    notes.all_empty(),
    notes.some_empty(3, 12),
]


def test_every_code_is_in_use_and_explained():
    assert {note.code for note in EVERY} == {code.value for code in NoteCode}
    assert len({code.meaning for code in NoteCode}) == len(NoteCode)


@pytest.mark.parametrize("note", EVERY, ids=lambda note: note.text[:30])
def test_sentences_of_lines_without_codes_are_known(note):
    assert read_notes([note.text], None) == (note,)


@pytest.mark.parametrize(
    "text", ["", "so 1024 tokens are beyond the file's context of 512", "3 of 4 answers are short"]
)
def test_other_sentences_have_no_code(text):
    assert read_notes([text], None) == (Note("", text),)


def test_a_code_is_believed_whatever_the_sentence_says():
    text = notes.beyond_context(1024, 512).text
    assert read_notes([text], ["one-text"]) == (Note("one-text", text),)
