"""Sentences with words that have two senses, for the lessons and their tests."""

import json
from pathlib import Path

SENSES: dict[str, dict[str, list[str]]] = {
    "bat": {
        "animal": [
            "The bat flew out of the cave at dusk.",
            "A bat hung upside down from the ceiling and slept through the day.",
            "The bat hunts moths at night by its own echoes.",
            "A fruit bat feeds on figs and mangoes.",
            "The vampire bat drinks the blood of cattle.",
        ],
        "club": [
            "He swung the bat and hit the ball over the fence.",
            "The batter broke his bat on the first pitch.",
            "She bought a new cricket bat before the match.",
            "A baseball bat is made of ash or maple wood.",
            "He gripped the bat and waited for the pitch.",
        ],
    },
    "bank": {
        "money": [
            "The bank raised its interest rates on loans.",
            "She opened a savings account at the bank.",
            "The bank refused to lend him the money.",
            "He works for a large investment bank in London.",
            "The bank was robbed on Friday morning.",
        ],
        "river": [
            "They had a picnic on the bank of the river.",
            "The boat drifted towards the left bank.",
            "Willows grow along the muddy bank of the stream.",
            "The river burst its bank after the heavy rain.",
            "We fished from the grassy bank all afternoon.",
        ],
    },
    "face": {
        "head": [
            "She washed her face with cold water.",
            "A smile spread over his face.",
            "He had a scar on his face.",
            "The child hid her face in her hands.",
            "Her face turned red with anger.",
        ],
        "to meet": [
            "We must face the truth about the accident.",
            "The company will face charges in court.",
            "They had to face a difficult decision.",
            "The team will face its rivals on Saturday.",
            "Farmers face higher costs this year.",
        ],
    },
}
"""By word and sense."""


def write_sentences(file: Path) -> None:
    """Writes all sentences as JSONL, with ids that say word, sense and number."""
    rows = [
        {"id": f"{word}/{sense}/{number}", "text": text}
        for word, of_word in SENSES.items()
        for sense, sentences in of_word.items()
        for number, text in enumerate(sentences)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
