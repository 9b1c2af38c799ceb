"""Shows how to write a list, for the message about a mistyped one."""

import re

QUOTE = "YAML reads No, Yes, on, off, null and numbers as no text, so quote them, such as 'No'."


def as_list(value: str, rule: str) -> str:
    """Write the parts of `value` as a list, with as many entries as the rule asks for and of the right types."""
    parts = [part.strip(" '\"") for part in value.strip("[]()").split(",")]
    if "str" in rule:
        spelled = {"True": "'Yes'", "False": "'No'", "None": "'null'"}
        return f"[{', '.join(spelled.get(part, repr(part) if part.isdigit() else part) for part in parts)}]"
    places = re.search(r"tuple\[([^\].]*)\]", rule)
    if not places:
        return f"[{', '.join(parts)}]"
    kinds = places[1].split(", ")
    fitting = zip([NUMBER.get(kind, ".*") for kind in kinds], parts * len(kinds), strict=False)
    return f"[{', '.join(part if re.fullmatch(form, part) else '1' for form, part in fitting)}]"


NUMBER = {"int": r"-?\d+", "float": r"-?[\d.]+(e-?\d+)?"}
"""A pattern for the numbers of each type."""
