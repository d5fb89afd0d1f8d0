"""A small agent that answers a question about a package's Python source.

It knows nothing in advance: it searches, reads, follows one more hop and says
what it found. Nothing here imports Django; the steps are plain values, and
`manage.py ask` publishes them.
"""
