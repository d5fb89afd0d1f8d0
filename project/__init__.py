"""The demo project of sse_polling: real input only, plain EventSource."""
