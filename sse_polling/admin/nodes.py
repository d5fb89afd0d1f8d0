"""Nodes: the fleet's page, one for each process, and the buttons that give orders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from ..database import alias
from ..models import Channel, Node
from ..nodes.giving import give
from ..nodes.reading import Fleet, NodeView, read_fleet
from ..nodes.telling import duration, node_label
from .judging import judge
from .live import LIVE_HEADER, fleet_parts, live_parts, orders, permitted, socket_parts
from .ordering import CHANNEL, CLOSE, DRAIN_ALL, DRAINS, RESUME_ALL, Asked, Judgement
from .rows import node_rows
from .totals import figures, reasons, totals

__all__ = ["NodeAdmin"]

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Node]
else:
    _ModelAdmin = admin.ModelAdmin

RECENT_SECONDS = 600  # orders on the fleet's page


@admin.register(Node)
class NodeAdmin(_ModelAdmin):
    """Nothing is written here but orders: rows are the processes' own."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Node | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Node | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return super().get_queryset(request).using(alias())

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("confirm/", wrap(self.confirm_view), name="sse_polling_node_confirm"),
            path("order/", wrap(self.order_view), name="sse_polling_node_order"),
        ]
        return [*own, *super().get_urls()]

    # Seeing

    @method_decorator(require_safe)
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the fleet."""
        self._check(request)
        fleet, may = read_fleet(sockets=True), permitted(request)
        drains = sum(node.state in DRAINS for node in fleet.nodes)
        given = orders(fleet, within=RECENT_SECONDS)
        serves = any(node.state not in (*DRAINS, "stopped") for node in fleet.nodes)
        context = {
            **live_parts(fleet, hurries=any(order.waits for order in given)),
            **fleet_parts(fleet),
            **socket_parts(fleet, request.GET.dict(), may),
            "title": gettext("Live sockets"),
            "totals": totals(fleet),
            "nodes": node_rows(fleet, may),
            "drain_all": DRAIN_ALL if serves and may(DRAIN_ALL) else "",
            "resume_all": RESUME_ALL if drains > 1 and may(RESUME_ALL) else "",
            "orders": given,
            "back": "live",
            **(extra_context or {}),
        }
        return self._page(request, "change_list", context)

    @method_decorator(require_safe)
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one process."""
        self._check(request)
        key = _key(unquote(object_id))
        fleet = read_fleet(node=key, sockets=True) if key is not None else _nobody()
        if not fleet.nodes:
            return self._page(request, "gone", {"title": gettext("This node is gone")}, status=404)
        node, may = fleet.nodes[0], permitted(request)
        rows, given = node_rows(fleet, may), orders(fleet)
        context = {
            **live_parts(fleet, hurries=any(order.waits for order in given)),
            **fleet_parts(fleet),
            **socket_parts(fleet, request.GET.dict() | {"node": ""}, may),
            **_last_words(node),
            "title": node_label(node),
            "object_id": object_id,
            "node": node,
            "nodes": rows,
            "figures": figures(node),
            "ended": reasons([node], "ended"),
            "orders": given,
            "back": "node",
            **(extra_context or {}),
        }
        return self._page(request, "change_form", context)

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _page(
        self, request: HttpRequest, name: str, context: dict[str, Any], *, status: int = 200
    ) -> HttpResponse:
        parts = LIVE_HEADER in request.headers
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/sse_polling/node/{name}.html",
            {
                **({} if parts else self.admin_site.each_context(request)),
                "frame": "admin/sse_polling/parts.html" if parts else "admin/base_site.html",
                "opts": self.opts,
                **context,
            },
            status=status,
        )

    # Ordering

    @method_decorator(require_safe)
    def confirm_view(self, request: HttpRequest) -> HttpResponse:
        """Ask before an order is given; the answer goes to :meth:`order_view`."""
        asked = self._asked(request, request.GET.dict())
        if asked is None:
            return self._refuse(request, gettext("There is no such button."))
        judgement = self._judge(request, asked)
        if judgement.refusal:
            return self._refuse(request, judgement.refusal, asked)
        context = {
            "title": judgement.title,
            "asked": asked,
            "judgement": judgement,
            "back_url": self._back(request, asked),
        }
        return self._page(request, "order", context)

    @method_decorator(require_POST)
    def order_view(self, request: HttpRequest) -> HttpResponse:
        """Give the order that was confirmed."""
        asked = self._asked(request, request.POST.dict())
        if asked is None:
            return self._refuse(request, gettext("There is no such button."))
        judgement = self._judge(request, asked)
        if judgement.refusal:
            return self._refuse(request, judgement.refusal, asked)
        nodes = [node.pk for node in judgement.nodes]
        give(asked.order, nodes, target=asked.target, by=request.user.get_username())
        self._log(request, asked, judgement)
        self.message_user(request, judgement.done, messages.SUCCESS)
        for warning in judgement.warnings:
            self.message_user(request, warning, messages.WARNING)
        return HttpResponseRedirect(self._back(request, asked))

    def _asked(self, request: HttpRequest, data: dict[str, Any]) -> Asked | None:
        """Return what is asked for, None if that is nonsense. Not for those who may not."""
        asked = Asked.read(data)
        if asked is None:
            self._check(request)
        elif not permitted(request)(asked.kind):
            raise PermissionDenied
        return asked

    def _judge(self, request: HttpRequest, asked: Asked) -> Judgement:
        fleet = read_fleet(sockets=asked.kind in (CHANNEL, CLOSE))
        return judge(asked, fleet, sees=self.has_view_permission(request))

    def _refuse(self, request: HttpRequest, why: str, asked: Asked | None = None) -> HttpResponse:
        self.message_user(request, why, messages.WARNING)
        return HttpResponseRedirect(self._back(request, asked))

    def _log(self, request: HttpRequest, asked: Asked, judgement: Judgement) -> None:
        if asked.kind == CHANNEL:
            channel = Channel.objects.using(alias()).filter(name=asked.target).first()
            named: Any = channel or Channel(name=asked.target)  # it may have readers and no row yet
            self.log_change(request, named, judgement.log)
            return
        for node in judgement.nodes:
            self.log_change(request, Node(pk=node.pk, name=node.name), judgement.log)

    def _back(self, request: HttpRequest, asked: Asked | None) -> str:
        """Return the address of the page that a button stood on, if that is there for this user."""

        def address(view: str, *args: Any) -> str:
            return reverse(f"admin:{view}", args=args, current_app=self.admin_site.name)

        if asked is not None and asked.back == "channel" and self.admin_site.is_registered(Channel):
            rows = Channel.objects.using(alias()).filter(name=asked.target)
            key = rows.values_list("pk", flat=True).first()
            if key is not None:
                return address("sse_polling_channel_change", key)
        if not self.has_view_permission(request):
            return address("index")
        if asked is not None and asked.back == "node" and asked.node is not None:
            return address("sse_polling_node_change", asked.node)
        return address("sse_polling_node_changelist")


def _last_words(node: NodeView) -> dict[str, str]:
    """Return the sentence of a node that says nothing any more."""
    told = {"node": node_label(node), "time": duration(node.age)}
    if node.state == "stopped":
        return {"sentence": gettext("Node %(node)s has stopped. This is what it said last.") % told}
    if node.state == "silent":
        words = gettext(
            "Node %(node)s has said nothing for %(time)s: it was killed, stands still, or cannot reach the "
            "database. All below is as old as that."
        )
        return {"sentence": words % told}
    return {}


def _key(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _nobody() -> Fleet:
    return Fleet(nodes=[], now=datetime.now(UTC))
