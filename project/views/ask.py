"""The pages of "Ask the source": the question, and the answer as it comes about."""

from __future__ import annotations

import json
import secrets

import django
from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from project.agent.investigation import opening
from project.desk import SLOTS, hire
from sse_polling import publish
from sse_polling.models import Event

from .home import missing

__all__ = ["ask", "task"]

EXAMPLES = (
    "How does QuerySet.select_related work?",
    "Where is the CSRF token checked?",
    "What does transaction.on_commit do with robust?",
    "Who closes old database connections?",
    "What does SimpleLazyObject do?",
)


class QuestionForm(forms.Form):
    question = forms.CharField(
        label="Your question",
        max_length=300,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def ask(request: HttpRequest) -> HttpResponse:
    """Take a question, start an agent on it, and go to the page that follows it."""
    form = QuestionForm(request.POST or None)
    busy = False
    if request.method == "POST" and form.is_valid():
        question = form.cleaned_data["question"]
        channel = f"ask.{secrets.token_hex(8)}"
        if hire(channel, question):
            # The agent publishes this step too, under the same key, so it is there once.
            publish(channel, opening(question).data(1), key="step-1")
            return redirect("task", channel.removeprefix("ask."))
        busy = True
    context = {
        "form": form,
        "examples": EXAMPLES,
        "busy": busy,
        "slots": SLOTS,
        "django_version": django.get_version(),
    }
    return render(request, "demo/ask.html", context, status=503 if busy else 200)


@require_safe
@never_cache
def task(request: HttpRequest, task: str) -> HttpResponse:
    """Show a task's steps from the first, however often the page is reloaded."""
    channel = f"ask.{task}"
    first = Event.objects.filter(channel__name=channel).order_by("sequence").first()
    if first is None:
        return missing(request, reason="Nobody asked this, or it was so long ago that it was deleted.")
    return render(request, "demo/task.html", {"channel": channel, "question": _question(first.data)})


def _question(data: str) -> str:
    try:
        return str(json.loads(data)["content"]["question"])
    except (ValueError, KeyError, TypeError):
        return "A question"
