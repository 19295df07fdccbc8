"""The study: one teacher, many ways of replacing its attention, and how far they differ by chance.

`settings` reads what is compared, `plan` says in which order,
`run` trains it, `result` is what a run leaves, `tables` and
`chart` compare what is there, `markdown` writes it down.
"""
