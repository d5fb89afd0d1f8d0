"""Nodes: each server process's row, and what is asked of it.

A process writes its row every few seconds (:mod:`.beat`), reads there what operators have ordered
(:mod:`.obeying`), and whoever wants to know about the fleet reads the rows (:mod:`.reading`).
"""
