"""`report.html`: one file without any other, light and dark, readable on a phone.

    what was written (run directory, result table)  ─►  panels  ─►  page

- `page` is the frame; `markup` makes tables, figures, notes and sections; `figures` draws (SVG by matplotlib).
- A *panel* is a function in `panels/` that takes what it shows and returns one section, or "" where there is nothing.
  To add one, write that function (`section("Heading", table(...), figure(line_chart(...)))`) and name it in the list of
  each kind of report that should have it.
- A kind of report is one module that lists its panels: `evaluation`, and others beside it.

Panels read what runs wrote and compute no result of their own.
"""
