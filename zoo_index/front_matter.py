"""The front matter of a README.md: the YAML between its first lines of ``---``."""

from __future__ import annotations

from zoo_index.errors import HubmergeError
from zoo_index.plain import Json, one_line, plain

__all__ = ["front_matter"]


def front_matter(card: str) -> tuple[dict[str, Json], str | None]:
    """The front matter of a card's text as plain JSON and, when there is one that cannot be read, what is wrong with it."""
    import yaml

    lines = card.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}, None
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return {}, "its front matter has no end (a line of ---)"
    try:
        value = yaml.safe_load("\n".join(lines[1:end]))
        if value is not None and not isinstance(value, dict):
            return {}, "its front matter is not a mapping"
        read = plain(value or {}, where="README.md")
        return read if isinstance(read, dict) else {}, None
    except HubmergeError as fault:
        text = " · ".join(part for part in (fault.message, fault.hint) if part)
        return {}, " ".join(str(plain(text)).split())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # safe_load raises ValueError and TypeError for impossible dates and for keys that cannot be keys
        return {}, f"its front matter is not YAML ({one_line(str(error))})"
