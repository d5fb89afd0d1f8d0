"""Events: to be read and searched by channel, sequence and key; never to be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..database import alias
from ..models import Channel, Event
from .amounts import grouped

__all__ = ["CHANNEL", "EventAdmin"]

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Event]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin, _Paginator = admin.ModelAdmin, Paginator

# Has its index, the constraint on both; over all channels only the primary key has one.
WITHIN_CHANNEL = ("channel_id", "-sequence")
MAX_LISTED = 10_000
MAX_BEGINNING = 100  # characters of data in the list
MAX_SHOWN = 100_000  # characters of data on an event's own page
CHANNEL = "channel__id__exact"  # the list of one channel


class BoundedPaginator(_Paginator):
    """Counts no further than MAX_LISTED: a table of events is never scanned to number the pages."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # a list never comes here
        # In the list's order, so that the database takes its index here too and stops at the bound.
        return rows.values("pk")[:MAX_LISTED].count()


class EventList(ChangeList):
    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Event]:
        rows: QuerySet[Event] = super().get_queryset(request, exclude_parameters)
        # A page of whole data could be as much as 25 MB.
        return rows.annotate(beginning=Left("data", MAX_BEGINNING + 1)).defer("data")

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        # The query string cannot ask for another order: only these have an index.
        return list(self.model_admin.get_ordering(request))


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("sequence", "channel", "event", "key", "data_beginning", "ends_burst", "created")
    list_display_links = ("sequence",)
    list_select_related = ("channel",)
    sortable_by = ()
    show_full_result_count = False
    paginator = BoundedPaginator
    actions = None
    search_fields = ("channel",)  # shows the box; get_search_results reads it
    search_help_text = _(
        "A channel's whole name and, after a space, a sequence or a key. On the list of one channel: "
        "a sequence or a key. Lists hold the newest 10,000 events at most."
    )
    fields = ("channel", "sequence", "wire_id", "event", "key", "ends_burst", "created", "whole_data")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return super().get_queryset(request).using(alias())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventList

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return WITHIN_CHANNEL if CHANNEL in request.GET else ("-pk",)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup == CHANNEL  # any other could be a scan of the data

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """Search by exact values only, always within one channel, as the indexes are."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if CHANNEL not in request.GET:
            name, _separator, term = term.partition(" ")
            channel = Channel.objects.using(alias()).filter(name=name).values_list("pk", flat=True).first()
            if channel is None:
                return queryset.none(), False
            queryset = queryset.filter(channel_id=channel).order_by(*WITHIN_CHANNEL)
            term = term.strip()
        if not term:
            return queryset, False
        found = Q(key=term)
        if term.isascii() and term.isdecimal() and len(term) < 20:
            found |= Q(sequence=int(term))
        return queryset.filter(found), False

    @admin.display(description=_("data"))
    def data_beginning(self, event: Event) -> str:
        beginning: str = event.beginning  # type: ignore[attr-defined]  # annotated by EventList
        return beginning if len(beginning) <= MAX_BEGINNING else beginning[:MAX_BEGINNING] + "…"

    @admin.display(description=_("id on the wire"))
    def wire_id(self, event: Event) -> str:
        return f"{event.channel.life}.{event.sequence}.{event.tag}"

    @admin.display(description=_("data"))
    def whole_data(self, event: Event) -> str:
        if len(event.data) <= MAX_SHOWN:
            return format_html("<pre>{}</pre>", event.data)
        note = gettext("The first %(shown)s of %(all)s characters.") % {
            "shown": grouped(MAX_SHOWN),
            "all": grouped(len(event.data)),
        }
        return format_html('<p class="help">{}</p><pre>{}</pre>', note, event.data[:MAX_SHOWN])
