"""Channels: where they stand, what holds for them and why; preset and retention can be set."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext, pgettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from ..conf import Effective, get_config
from ..database import alias
from ..models import Channel, Event, Node
from ..protocol.cursor import new_life
from ..wake import look_again
from .erasing import erase
from .events import CHANNEL
from .live import LIVE_HEADER, channel_parts, permitted

__all__ = ["ChannelAdmin"]

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Channel]
else:
    _ModelAdmin = admin.ModelAdmin

_random = random.SystemRandom()
WISHES = ("preset", "max_events", "max_age_seconds")
MAX_ERASED = 500  # channels in one request: each is a field of the confirmation's form


@admin.register(Channel)
class ChannelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    """Only an operator's wishes are written here, and only their columns: the rest is the publishers'."""

    list_display = ("name", "head", "retained", "finished", "published", "preset_in_effect")
    list_filter = ("preset", ("finished", admin.EmptyFieldListFilter))
    search_fields = ("name",)
    ordering = ("name",)
    show_full_result_count = False
    actions = ("delete_selected",)  # by its name it replaces the one that Django adds everywhere
    readonly_fields = ("head", "retained", "life", "created", "published", "finished", "effective_settings")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        # Where events are written: a replica may not have the channel yet.
        events = Event.objects.filter(channel_id=OuterRef("pk")).order_by("sequence")
        rows: QuerySet[Channel] = super().get_queryset(request).using(alias())
        return rows.annotate(first_retained=Subquery(events.values("sequence")[:1]))

    def get_fieldsets(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        wishes = (_("Settings of this channel"), {"fields": WISHES})
        if obj is None:
            return [(None, {"fields": ["name"]}), wishes]
        stands = ["name", "head", "retained", "finished", "published", "created", "life"]
        return [(None, {"fields": stands}), wishes, (_("What holds"), {"fields": ["effective_settings"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        # Adding is for wishes that must hold from a channel's first event on. Later the name stays:
        # it is what publishers and readers know the channel by.
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    @admin.display(description=_("retained"))
    def retained(self, channel: Channel) -> str:
        return _retained(channel)

    @admin.display(description=_("effective preset"))
    def preset_in_effect(self, channel: Channel) -> str:
        effective = _effective(channel)
        return f"{effective.preset} ({_source(effective, 'preset')})"

    @admin.display(description=_("effective settings"))
    def effective_settings(self, channel: Channel) -> str:
        return render_to_string(
            "admin/sse_polling/channel/effective_settings.html", {"rows": _rows(_effective(channel))}
        )

    # Writing

    def save_model(
        self, request: HttpRequest, obj: Channel, form: forms.ModelForm[Channel], change: bool
    ) -> None:
        if change:
            # Not save(): this object's head may be old by now, and writing it back would undo publishes.
            Channel.objects.using(alias()).filter(pk=obj.pk).update(
                **{name: getattr(obj, name) for name in WISHES}
            )
        else:
            obj.life = new_life(_random)
            obj.save(using=alias())
        transaction.on_commit(partial(look_again, [obj.name]), using=alias())

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        channel = self.get_object(request, unquote(object_id)) if self._shows_readers(request) else None
        readers = (
            channel_parts(channel.name, request.GET.dict(), permitted(request)) if channel is not None else {}
        )
        if readers:
            readers["list_url"] = self._address("node_changelist")
            if LIVE_HEADER in request.headers:
                request.current_app = self.admin_site.name
                return TemplateResponse(request, "admin/sse_polling/channel/readers_parts.html", readers)
        context = {
            **readers,
            "readers": bool(readers),
            "show_delete": False,  # "Erase" stands among the object's tools instead
            "events_url": self._events(request, unquote(object_id)),
            "may_erase": self.has_delete_permission(request),
        }
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def _shows_readers(self, request: HttpRequest) -> bool:
        site = self.admin_site
        return (
            request.method == "GET"
            and site.is_registered(Node)
            and site.get_model_admin(Node).has_view_permission(request)
            and (self.has_view_permission(request) or self.has_change_permission(request))
        )

    def _events(self, request: HttpRequest, key: str) -> str:
        """Return the address of the list of a channel's events, empty if it is not for this user."""
        site = self.admin_site
        if not site.is_registered(Event) or not site.get_model_admin(Event).has_view_permission(request):
            return ""
        return f"{self._address('event_changelist')}?{urlencode({CHANNEL: key})}"

    # Erasing: Django's own deletion would load every event into memory, in one transaction

    def get_urls(self) -> list[URLPattern]:
        erase = path("erase/", self.admin_site.admin_view(self.erase_view), name="sse_polling_channel_erase")
        return [erase, *super().get_urls()]

    @admin.action(permissions=["delete"], description=_("Erase selected channels and their events"))
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        channels = list(queryset[: MAX_ERASED + 1])
        if len(channels) > MAX_ERASED:
            self.message_user(
                request,
                gettext("At most %(most)s channels can be erased at once.") % {"most": MAX_ERASED},
                messages.ERROR,
            )
            return None
        return self._confirm(request, channels)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask before one channel is erased; the answer goes to :meth:`erase_view`."""
        channel = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, channel):
            raise PermissionDenied
        if channel is None:
            self.message_user(request, gettext("There is no such channel any more."), messages.WARNING)
            return self._to_list()
        return self._confirm(request, [channel])

    def _confirm(self, request: HttpRequest, channels: list[Channel]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Erase channels?"),
            "opts": self.opts,
            "media": self.media,
            "channels": [(channel, _retained(channel)) for channel in channels],
            "erase_url": self._address("channel_erase"),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/sse_polling/channel/erase.html", context)

    # Non-atomic also under ATOMIC_REQUESTS: a channel goes in many small transactions.
    @method_decorator([transaction.non_atomic_requests, require_POST])
    def erase_view(self, request: HttpRequest) -> HttpResponse:
        """Erase the channels that the confirmation named, as many as a request has time for."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        keys = [
            key
            for key in request.POST.getlist("channel")
            if key.isascii() and key.isdecimal() and len(key) < 19
        ]
        channels = self.get_queryset(request).filter(pk__in=keys[:MAX_ERASED]).order_by("name")
        erased = erase(channels, begin=partial(self._log, request))
        done = {
            "channels": _channels(erased.channels),
            "events": _events(erased.events),
            "next": erased.unfinished,
        }
        if erased.unfinished is None:
            self.message_user(request, gettext("Erased: %(channels)s, %(events)s.") % done, messages.SUCCESS)
        else:
            self.message_user(
                request,
                gettext(
                    "Time was up. Erased: %(channels)s, %(events)s; %(next)s is erased in part. "
                    "Erase the rest once more to go on."
                )
                % done,
                messages.WARNING,
            )
        return self._to_list()

    def _log(self, request: HttpRequest, channel: Channel) -> None:
        self.log_deletions(request, Channel.objects.using(alias()).filter(pk=channel.pk))

    def _to_list(self) -> HttpResponse:
        return HttpResponseRedirect(self._address("channel_changelist"))

    def _address(self, view: str) -> str:
        return reverse(f"admin:sse_polling_{view}", current_app=self.admin_site.name)

    def delete_model(self, request: HttpRequest, obj: Channel) -> None:
        erase([obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        erase(queryset)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Django collects all related rows here.
        forbidden = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        names = [str(each) for each in objs]
        return names, {self.opts.verbose_name_plural: len(names)}, forbidden, []


def _effective(channel: Channel) -> Effective:
    return get_config().effective(
        channel.name,
        preset=channel.preset,
        max_events=channel.max_events,
        max_age_seconds=channel.max_age_seconds,
    )


def _retained(channel: Channel) -> str:
    """Return the range of the retained events, in words; it is dense, so nothing is counted."""
    first: int | None = channel.first_retained  # type: ignore[attr-defined]  # annotated by get_queryset
    if first is None:
        return pgettext("events", "none")
    count = _events(channel.head - first + 1)
    return gettext("%(first)s to %(last)s: %(count)s") % {
        "first": _grouped(first),
        "last": _grouped(channel.head),
        "count": count,
    }


def _events(count: int) -> str:
    return ngettext("%(count)s event", "%(count)s events", count) % {"count": _grouped(count)}


def _channels(count: int) -> str:
    return ngettext("%(count)s channel", "%(count)s channels", count) % {"count": _grouped(count)}


def _grouped(number: float) -> str:
    return number_format(number, use_l10n=True, force_grouping=True)


def _rows(effective: Effective) -> Iterable[tuple[str, str, str]]:
    """Yield (setting, value, source) of all that holds for a channel."""
    yield "PRESET", effective.preset, _source(effective, "preset")
    for part in ("burst", "retry", "retention"):
        limits = getattr(effective, part)
        for each in fields(limits):
            value = getattr(limits, each.name)
            yield (
                f"{part.upper()}[{each.name!r}]",
                gettext("no limit") if value is None else _grouped(value),
                _source(effective, f"{part}.{each.name}"),
            )
    yield "AUTHORIZE", _path(effective.authorize), _source(effective, "authorize")


def _path(rule: str | Callable[..., Any]) -> str:
    if isinstance(rule, str):
        return rule
    return f"{rule.__module__}.{getattr(rule, '__qualname__', type(rule).__qualname__)}"


def _source(effective: Effective, name: str) -> str:
    source = effective.sources[name]
    words = {
        "default": gettext("default"),
        "preset": gettext("preset %(name)s") % {"name": effective.preset},
        "settings": gettext("settings"),
        "admin": gettext("this channel"),
        "app": gettext("the app's own channel"),
    }
    return words.get(source, f"SSE_POLLING {source}")
