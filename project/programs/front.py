"""The nginx in front of a fleet of servers, set up for streams that come back."""

from __future__ import annotations

from .nginx import Nginx

__all__ = ["Front"]

_CONFIGURATION = """\
# One process, known by its id. (Workers that outlive a killed master would keep the port.)
master_process off;
pid {directory}/{name}.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;

    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    map $http_accept $is_stream {{ default 0; ~text/event-stream 1; }}
    # So that those who were sent away do not come back in one moment.
    split_clients $request_id $retry_ms {{ 25% 1000; 25% 1500; 25% 2000; * 2500; }}

    upstream servers {{
        # A server that was killed is back in a second, and a refused connection costs nothing here. With the
        # usual max_fails=1 four kills within ten seconds leave nobody to ask.
{servers}
        # No `keepalive`: the app closes its sockets on purpose, and a POST must not meet one that the
        # server has just closed. nginx would have to answer it with a 502.
    }}
    server {{
{listen}
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            # Streams are not buffered: the app says so itself, with X-Accel-Buffering.
            # Over the 20 s between two heartbeats; a frozen server's streams are cut and come back elsewhere.
            proxy_read_timeout 25s;
            proxy_connect_timeout 2s;
            # A GET that has not been answered yet is asked of the next server, anything else is not.
            proxy_next_upstream error timeout;
            add_header X-Upstream $upstream_addr always;
            error_page 502 504 = @nobody;
            {extra}
        }}
        # No server is there. A browser's EventSource never comes back from a 502, so it gets a stream
        # that only says when to ask again.
        location @nobody {{
            if ($is_stream = 0) {{
                return 502 "No server of the fleet answers.\\n";
            }}
            default_type text/event-stream;
            add_header Cache-Control "no-cache, no-transform" always;
            return 200 "retry: $retry_ms\\n\\n";
        }}
    }}
}}
"""


class Front(Nginx):
    """Run nginx as one process in front of the given ports; it names the server in `X-Upstream`.

    Nothing here is about being fast: it is about a killed server never ending a browser's stream.
    """

    template = _CONFIGURATION
    server_options = " max_fails=0"
