"""The demo's addresses."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from .views import ask, crowd, home, machine, read, tasks

urlpatterns = [
    path("", home.home, name="home"),
    path("ask/", ask.ask, name="ask"),
    path("ask/<slug:task>/", ask.task, name="task"),
    path("tasks/", tasks.tasks, name="tasks"),
    path("tasks/<slug:task>/", tasks.task, name="tasks-task"),
    path("tasks/<slug:task>/cancel/", tasks.cancel, name="tasks-cancel"),
    path("machine/", machine.machine, name="machine"),
    path("crowd/", crowd.crowd, name="crowd"),
    path("crowd/preset/", crowd.preset, name="crowd-preset"),
    path("crowd/cut/", crowd.cut, name="crowd-cut"),
    path("crowd/cut/here/", crowd.cut_here, name="crowd-cut-here"),
    path("crowd/restart/", crowd.restart, name="crowd-restart"),
    path("read/<str:channel>/", read.read, name="read"),
    path("events/", include("sse_polling.urls")),
    path("admin/", admin.site.urls),
]
handler404 = "project.views.home.missing"
