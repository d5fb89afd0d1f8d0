"""The pages of "Ask the source": the question, and the answer as it comes about."""

from __future__ import annotations

import django
from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from project.models import Task
from project.tasks.submitting import Full, submit

from .home import missing
from .tasks import is_erased

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
    """Take a question, hand it to the workers, and go to the page that follows the answer."""
    form = QuestionForm(request.POST or None)
    refusal = ""
    if request.method == "POST" and form.is_valid():
        try:
            return redirect("task", submit(form.cleaned_data["question"]).key)
        except Full as full:
            refusal = str(full)
    context = {
        "form": form,
        "examples": EXAMPLES,
        "refusal": refusal,
        "django_version": django.get_version(),
    }
    return render(request, "demo/ask.html", context, status=503 if refusal else 200)


@require_safe
@never_cache
def task(request: HttpRequest, task: str) -> HttpResponse:
    """Show a task's steps from the first, however often the page is reloaded."""
    row = Task.objects.filter(key=task).first()
    if row is None or is_erased(row):
        return missing(request, reason="Nobody asked this, or it was so long ago that it was deleted.")
    return render(request, "demo/task.html", {"task": row})
