"""The demo's pages, a module for each."""
