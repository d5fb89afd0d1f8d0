"""What is stored: channels, their events, who trims; server processes, and what they are asked to do."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .exceptions import InvalidChannel
from .presets import PRESETS
from .protocol.names import RESERVED_NAMES, check_channel
from .rules import MAX_RETENTION_EVENTS, MAX_RETENTION_SECONDS

__all__ = ["Channel", "Event", "Lease", "Node", "NodeSockets", "Order"]


def validate_channel(name: str) -> None:
    try:
        check_channel(name)
    except InvalidChannel:
        # In words of their own, which can be translated.
        if name in RESERVED_NAMES:
            told = _("The channel name %(name)r is taken by an address of the app; choose another.")
        else:
            told = _(
                "Not a channel name: %(name)r. Expected 1 to 200 ASCII letters, digits or _ . : ~ - "
                "and not only dots."
            )
        raise ValidationError(told, params={"name": name}) from None


class Channel(models.Model):
    """A named, ordered, stored stream of events.

    ``head`` is the sequence of its newest event, 0 before the first; publishers lock this row,
    so commit order is sequence order and sequences are dense. ``life`` names this existence of
    the channel: one made anew under the same name has another.
    """

    name = models.CharField(_("name"), max_length=200, unique=True, validators=[validate_channel])
    life = models.CharField(_("life"), max_length=16, editable=False)
    head = models.BigIntegerField(_("head"), default=0, editable=False)
    head_tag = models.CharField(max_length=10, default="-", editable=False)
    created = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    published = models.DateTimeField(_("last published"), default=timezone.now, editable=False)
    finished = models.DateTimeField(_("finished"), null=True, blank=True, editable=False)
    preset = models.CharField(
        _("preset"),
        max_length=20,
        blank=True,
        default="",
        choices=[(name, name) for name in PRESETS],
        help_text=_("Where burst and retry start; wins over the settings. Empty: the settings decide."),
    )
    max_events = models.BigIntegerField(
        _("retention: events"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_RETENTION_EVENTS)],
        help_text=_("How many events to keep; wins over the settings. Empty: the settings decide."),
    )
    max_age_seconds = models.BigIntegerField(
        _("retention: seconds"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_RETENTION_SECONDS)],
        help_text=_("For how long to keep events; wins over the settings. Empty: the settings decide."),
    )

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """One entry of a channel. ``data`` is the wire's text; ``tag`` tells it from another life's."""

    # No index of its own: the constraint on (channel, sequence) begins with the channel.
    channel = models.ForeignKey(
        Channel, on_delete=models.CASCADE, db_index=False, related_name="events", verbose_name=_("channel")
    )
    sequence = models.BigIntegerField(_("sequence"))
    tag = models.CharField(max_length=10)
    event = models.CharField(_("event"), max_length=100)
    data = models.TextField(_("data"))
    # Null and not empty text: the constraint is about the events that have a key.
    key = models.CharField(  # noqa: DJ001
        _("key"), max_length=200, null=True, blank=True
    )
    ends_burst = models.BooleanField(_("ends burst"), default=False)
    created = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["channel", "sequence"], name="sse_polling_event_position"),
            models.UniqueConstraint(
                fields=["channel", "key"], condition=models.Q(key__isnull=False), name="sse_polling_event_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.sequence}"


class Lease(models.Model):
    """A task that one serving process does at a time, until when and by whom."""

    name = models.CharField(max_length=50, primary_key=True)
    holder = models.CharField(max_length=100)
    until = models.DateTimeField()

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"


class Node(models.Model):
    """One server process, as it last said of itself; times are the database's.

    ``figures``, ``history`` and the sockets are JSON whose shapes ``sse_polling.nodes.reading`` knows.
    ``stopped`` is when it said that it ends; a process that was killed never says so, and falls silent.
    """

    name = models.CharField(_("name"), max_length=150, unique=True)
    host = models.CharField(_("host"), max_length=100)
    pid = models.PositiveBigIntegerField(_("process"))
    server = models.CharField(_("server"), max_length=30)
    started = models.DateTimeField(_("started"))
    seen = models.DateTimeField(_("last seen"), db_index=True)
    stopped = models.DateTimeField(_("stopped"), null=True, blank=True)
    state = models.CharField(_("state"), max_length=20)
    sockets = models.PositiveIntegerField(_("sockets"), default=0)
    readers = models.PositiveIntegerField(_("readers"), default=0)
    capacity = models.PositiveIntegerField(_("capacity"), default=0)
    figures = models.JSONField(_("figures"), default=dict)
    history = models.JSONField(_("history"), default=dict)

    class Meta:
        verbose_name = _("live sockets")
        verbose_name_plural = _("live sockets")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("drain_node", _("Can drain a process")),
            ("resume_node", _("Can let a drained process serve again")),
            ("drain_all", _("Can drain all processes at once")),
            ("drain_channel", _("Can drain a channel")),
            ("close_socket", _("Can close a single socket")),
        ]

    def __str__(self) -> str:
        return self.name


class NodeSockets(models.Model):
    """Up to 500 of a process's sockets, packed: as of *taken*, and *total* of them there were."""

    node = models.OneToOneField(Node, on_delete=models.CASCADE, primary_key=True, related_name="listing")
    taken = models.DateTimeField()
    total = models.PositiveIntegerField()
    packed = models.BinaryField()

    def __str__(self) -> str:
        return str(self.node_id)


class Order(models.Model):
    """What an operator has asked a process to do. The process says in ``result`` what came of it."""

    class Kind(models.TextChoices):
        DRAIN = "drain", _("drain")
        RESUME = "resume", _("resume")
        CLOSE = "close", _("close socket")
        CHANNEL = "channel", _("drain channel")

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="orders")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    target = models.CharField(max_length=200, blank=True, default="")
    by = models.CharField(max_length=150, blank=True, default="")
    created = models.DateTimeField()
    done = models.DateTimeField(null=True, blank=True)
    result = models.CharField(max_length=20, blank=True, default="")

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["node", "id"], name="sse_polling_order_open", condition=models.Q(done__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()
