"""The addresses of the test project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from tests import counting, publishing

urlpatterns = [
    path("admin/", admin.site.urls),
    path("events/", include("sse_polling.urls")),
    path("counts/", counting.counts, name="counts"),
    path("publish/", publishing.publish, name="publish"),
]
