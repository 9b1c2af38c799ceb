"""Write rows that teach one skill: from a sentence about an appointment to a fixed JSON form.

python examples/appointments.py examples/appointments

Every sentence is put together here by a seed, so its right answer is known. No sentence of the three files occurs in
another; one wording in four and one name in four are left to the test file alone.
"""

import json
import random
import sys
from pathlib import Path

ROWS = {"train": 300, "validation": 50, "test": 100}
WHAT = ["dentist", "haircut", "lunch", "phone call", "piano lesson", "job interview", "team meeting", "check-up"]
WHO = ["Anna", "Omar", "Mrs Lee", "Dr Novak", "Jonas", "Priya", "Mr Silva", "Chloe"]
WHO_TEST = ["Dr Okafor", "Lucas"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
HOURS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

WORDINGS = [
    "Please put my {what} with {who} in the calendar for {day} at {time}.",
    "{who} can see me for the {what} on {day} at {time}.",
    "My {what} with {who} is on {day}, {time}.",
    "On {day} at {time} I have a {what} with {who}.",
    "Don't let me forget: {what}, {day}, {time}, with {who}.",
    "{what} with {who} has moved to {day} at {time}.",
    "{who} asked for {day} at {time} for our {what}.",
    "I agreed on {day}, {time}, for a {what} with {who}.",
    "Could you note a {what} on {day}? It is with {who} at {time}.",
]
WORDINGS_TEST = [
    "We said {time} on {day} for the {what}; {who} will be there.",
    "There is a {what} with {who} coming up, {day} at {time}.",
    "{day} works for {who}: the {what} will be at {time}.",
]


def clock(generator: random.Random) -> tuple[str, str]:
    """A time in words or figures, and the same as HH:MM."""
    hour, minute = generator.randint(8, 20), generator.choice([0, 15, 30, 45])
    half = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    this, following = HOURS[(hour - 1) % 12], HOURS[hour % 12]
    words = {0: f"{this} o'clock", 15: f"quarter past {this}", 30: f"half past {this}", 45: f"quarter to {following}"}
    figures = f"{(hour - 1) % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}"
    return generator.choice([f"{words[minute]} {half}", figures]), f"{hour:02}:{minute:02}"


def appointment(generator: random.Random, test: bool) -> tuple[str, dict[str, str]]:
    """A sentence, and the form that it fills in."""
    wordings, names = (WORDINGS + WORDINGS_TEST, WHO + WHO_TEST) if test else (WORDINGS, WHO)
    what, who, day = generator.choice(WHAT), generator.choice(names), generator.choice(DAYS)
    said, time = clock(generator)
    sentence = generator.choice(wordings).format(what=what, who=who, day=day, time=said)
    return sentence[0].upper() + sentence[1:], {"what": what, "who": who, "day": day, "time": time}


def main(folder: Path) -> None:
    """Write train.jsonl, validation.jsonl and test.jsonl."""
    generator, seen = random.Random(0), set()
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in ROWS.items():
        lines = []
        while len(lines) < count:
            sentence, form = appointment(generator, name == "test")
            if sentence not in seen:
                seen.add(sentence)
                turns = [("user", sentence), ("assistant", json.dumps(form))]
                lines.append(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
