"""The study: one teacher, many ways of replacing its attention, and how far they differ by chance.

`settings` reads what is compared, `plan` says in which order, `run` trains it and `jobs` does so
side by side, `tables` compares what is there, `report` writes it down.
"""
