"""Other programs' protocols, one file each, in the same process and at the same port."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter


@dataclass(frozen=True)
class Protocol:
    """A protocol that other programs speak.

    Attributes:
        name: for a person.
        router: its routes.
        uploads: beginnings of paths that take files.
        open: paths that answer before a token is shown, because the program asks there how to show it.
    """

    name: str
    router: APIRouter
    uploads: tuple[str, ...]
    open: tuple[str, ...] = ()


MODULES = ("monai_label", "voxtell", "x_anylabeling", "label_studio")
"""Each has a `PROTOCOL`."""


def protocols() -> list[Protocol]:
    """All of them."""
    from importlib import import_module

    return [import_module(f"lexiseg.serve.protocols.{name}").PROTOCOL for name in MODULES]
