"""The application of a server in which a bug is planted."""

from __future__ import annotations

from tests.asgi import application

from .planted import plant_here

__all__ = ["application"]

plant_here()
