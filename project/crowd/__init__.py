"""Many real EventSource clients, on this machine only. Nothing here imports sse_polling."""
