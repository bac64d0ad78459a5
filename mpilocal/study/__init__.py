"""Studies: a grid of runs, and what is claimed of them, as data.

`structs` is a study's file and `grid` its cells; `runner` makes the runs, with `tune` choosing what is tuned, and
`results` keeps them; `quantities`, `claims` and `figures` say and draw what they show.
"""
