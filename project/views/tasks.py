"""The tasks: a REST API, and one console page for the same addresses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_headers

from project.models import Task
from project.tasks import ledger
from project.tasks.submitting import Full, submit
from project.tasks.timeline import timeline
from sse_polling.models import Channel, Event

from .home import missing

__all__ = ["cancel", "is_erased", "task", "tasks"]

LISTED = 50
MAX_BODY_BYTES = 16_384
RETRY_AFTER_SECONDS = 5
_View = Callable[..., HttpResponse]


class TaskForm(forms.Form):
    question = forms.CharField(max_length=300)
    index = forms.BooleanField(required=False)
    pace = forms.FloatField(required=False, min_value=0, max_value=2)

    def clean_question(self) -> str:
        question: str = self.cleaned_data["question"]
        if any("\ud800" <= each <= "\udfff" for each in question):
            raise forms.ValidationError("Half a character (a lone surrogate) is no text.")
        return question


class Refused(Exception):
    """Answered as JSON: a status, a stable code, a sentence."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        told = {"error": {"code": code, "message": message}}
        self.answer = JsonResponse(told, status=status, headers=headers)


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        message = f"{reason} Send the csrftoken cookie's value as X-CSRFToken."
        return Refused(403, "csrf", message).answer


def _api(*methods: str) -> Callable[[_View], _View]:
    """Allow these methods, protect against forged requests, and answer refusals in JSON.

    While DEBUG is on, a request that has neither cookies nor an Origin is from no browser, so there is
    nothing that could be forged: plain curl works on the demo. Elsewhere it needs the token, as always.
    """

    def decorate(view: _View) -> _View:
        @wraps(view)
        def guarded(request: HttpRequest, **arguments: str) -> HttpResponse:
            if request.method not in methods:
                allowed = ", ".join(methods)
                message = f"{request.method} is not offered here; {allowed} is."
                return Refused(405, "method", message, {"Allow": allowed}).answer
            plain = settings.DEBUG and not request.COOKIES and "Origin" not in request.headers
            if not plain:
                check = _Csrf(lambda request: HttpResponse())
                check.process_request(request)
                if refusal := check.process_view(request, guarded, (), {}):
                    return refusal
            try:
                return view(request, **arguments)
            except Refused as refused:
                return refused.answer

        return csrf_exempt(never_cache(vary_on_headers("Accept")(guarded)))

    return decorate


@_api("GET", "HEAD", "POST")
def tasks(request: HttpRequest) -> HttpResponse:
    """List the newest tasks, or submit one."""
    if request.method == "POST":
        return _submit(request)
    if _wants_page(request):
        return _console(request, None)
    newest = list(Task.objects.select_related("parent").order_by("-pk")[:LISTED])
    counts = {state.value: 0 for state in (Task.State.WAITING, Task.State.RUNNING)}
    for state in Task.objects.filter(state__in=counts).values_list("state", flat=True):
        counts[state] += 1
    return JsonResponse({"tasks": _described(request, newest), **counts, "limit": LISTED})


@_api("GET", "HEAD")
def task(request: HttpRequest, task: str) -> HttpResponse:
    """Show one task as it stands, or the console that watches it."""
    row = Task.objects.select_related("parent").filter(key=task).first()
    if _wants_page(request):
        gone = "There is no such task, or it was so long ago that it was deleted."
        return _console(request, row) if row else missing(request, reason=gone)
    return JsonResponse(_whole(request, _found(row, task)))


@_api("POST")
def cancel(request: HttpRequest, task: str) -> HttpResponse:
    """Cancel a task. It is over at once; a task that is over already stays as it is."""
    if not (settings.DEBUG or request.user.is_staff):
        raise Refused(403, "forbidden", "On this site only staff may cancel tasks.")
    row = _found(ledger.cancel(task), task)
    if row.state != Task.State.CANCELLED:
        raise Refused(409, "over", f"This task is over already: {row.state}.")
    return redirect("tasks-task", row.key) if _wants_page(request) else JsonResponse(_whole(request, row))


def _submit(request: HttpRequest) -> HttpResponse:
    form = TaskForm(_fields(request))
    if not form.is_valid():
        if _wants_page(request):
            return _console(request, None, form=form, status=400)
        sentence = " ".join(f"{name}: {error}" for name, errors in form.errors.items() for error in errors)
        raise Refused(400, "invalid", sentence)
    asked = form.cleaned_data
    try:
        row = submit(asked["question"], indexed=asked["index"], pace=asked["pace"])
    except Full as full:
        if _wants_page(request):
            return _console(request, None, form=form, refusal=str(full), status=503)
        raise Refused(503, "full", str(full), {"Retry-After": str(RETRY_AFTER_SECONDS)}) from None
    if _wants_page(request):
        return redirect("tasks-task", row.key)
    answered = JsonResponse(_whole(request, row), status=201)
    answered.headers["Location"] = reverse("tasks-task", args=[row.key])
    return answered


def _fields(request: HttpRequest) -> Any:
    """Return the form's fields from either kind of body. Raises :exc:`Refused`."""
    if _size(request) > MAX_BODY_BYTES:
        raise Refused(413, "too_large", f"A body may have {MAX_BODY_BYTES:,} bytes.")
    if request.content_type in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        return request.POST
    if request.content_type != "application/json":
        raise Refused(415, "media_type", "Send application/json or a form.")
    try:
        fields = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "json", f"The body is no JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise Refused(400, "json", 'The body is a JSON object: {"question": "…"}.')
    if unknown := fields.keys() - TaskForm.base_fields.keys():
        raise Refused(
            400, "invalid", f"Unknown: {', '.join(sorted(unknown))}. There are question, index and pace."
        )
    kinds = {"question": (str,), "index": (bool,), "pace": (int, float)}
    if any(type(value) not in kinds[name] for name, value in fields.items()):
        raise Refused(400, "invalid", "question is a text, index true or false, pace a number of seconds.")
    return fields


def _size(request: HttpRequest) -> int:
    """Return how long the body is: as it says, or in chunks that say nothing, as it came."""
    said = int(request.headers.get("Content-Length") or 0)
    try:
        return said if said > MAX_BODY_BYTES else len(request.body)
    except RequestDataTooBig:
        return MAX_BODY_BYTES + 1


def _found(row: Task | None, key: str) -> Task:
    if row is None:
        raise Refused(404, "unknown", f"There is no task {key}.")
    return row


def is_erased(row: Task) -> bool:
    """Tell whether retention has removed the channel of a task that is over."""
    return row.is_over and not Event.objects.filter(channel__name=row.channel).exists()


def _wants_page(request: HttpRequest) -> bool:
    return request.get_preferred_type(["application/json", "text/html"]) == "text/html"


def _described(request: HttpRequest, rows: Iterable[Task]) -> list[dict[str, Any]]:
    """Describe tasks, without what only one's own address says."""
    rows = list(rows)
    heads = dict(Channel.objects.filter(name__in=[row.channel for row in rows]).values_list("name", "head"))
    return [
        {
            **ledger.outline(row),
            "channel": row.channel,
            "started": row.started,
            "released": row.released,
            # `end` is an event too.
            "steps": max(0, heads.get(row.channel, 0) - row.is_over),
            "stream": reverse("sse_polling:stream", args=[row.channel]) + "?last_event_id=earliest",
            "url": request.build_absolute_uri(reverse("tasks-task", args=[row.key])),
            "cancel": None if row.is_over else reverse("tasks-cancel", args=[row.key]),
        }
        for row in rows
    ]


def _whole(request: HttpRequest, row: Task) -> dict[str, Any]:
    (described,) = _described(request, [row])
    return {
        **described,
        "result": row.result,
        "error": row.error or None,
        "reads": [child.key for child in row.children.all()],
        "timeline": timeline(row),
    }


def _console(
    request: HttpRequest,
    row: Task | None,
    *,
    form: TaskForm | None = None,
    refusal: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        # Not evaluated before the template has taken the cursor of the channel `tasks`.
        "tasks": Task.objects.select_related("parent").order_by("-pk")[:LISTED],
        "states": ledger.STATES_CHANNEL,
        "watched": row,
        "source": row.children.first() if row else None,
        # Retention has removed its channel, so there is nothing to wait for.
        "erased": row is not None and is_erased(row),
        "form": form or TaskForm(),
        "refusal": refusal,
        "may_cancel": settings.DEBUG or request.user.is_staff,
        "address": f"{request.scheme}://{request.get_host()}",
        "listed": LISTED,
    }
    return render(request, "demo/tasks.html", context, status=status)
