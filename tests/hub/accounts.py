"""Who may ask: users, organisations, and their tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from hub.wire import Refusal

__all__ = ["Accounts", "Viewer"]


@dataclass(frozen=True)
class Viewer:
    """Who sends a request: a user by name and the role of the token (read or write); nobody when `name` is empty."""

    name: str = ""
    role: str = "read"

    @property
    def anonymous(self) -> bool:
        return not self.name


@dataclass
class Accounts:
    """Users, organisations (name -> members) and live tokens (token -> viewer)."""

    users: set[str] = field(default_factory=set)
    organisations: dict[str, set[str]] = field(default_factory=dict)
    tokens: dict[str, Viewer] = field(default_factory=dict)

    def new_token(self, user: str, role: str = "write") -> str:
        """A fresh token for `user`, who is created when new; no two servers or calls give the same."""
        self.users.add(user)
        token = f"hf_{secrets.token_hex(17)}"
        self.tokens[token] = Viewer(user, role)
        return token

    def revoke(self, token: str) -> None:
        """From now on the token is refused with 401."""
        del self.tokens[token]

    def viewer(self, token: str | None) -> Viewer:
        if token is None:
            return Viewer()
        try:
            return self.tokens[token]
        except KeyError:
            raise Refusal(401, "Invalid credentials in Authorization header") from None

    def belongs(self, viewer: Viewer, namespace: str) -> bool:
        """Whether `namespace` is the viewer or one of the viewer's organisations."""
        if viewer.anonymous:
            return False
        return namespace == viewer.name or viewer.name in self.organisations.get(namespace, set())
