"""From the records of all stages to one page that people enjoy reading.

    records.py       results/<run>/ -> Run: every JSON record, or None with the command that makes it
    samples.py       one parquet file -> the latencies of a measurement
    percentiles.py   raw latencies -> percentiles with intervals, and what a sample size cannot support
    measurements.py  summary.json + raw rows -> Measurement, cross-checked
    sections/        Run -> Section: headline, equality, training, serving, validity, terms, environment
    figures/         arrays -> Plotly figures; no figure knows a page, no section knows Plotly's layout
    page.py          the blocks a section is made of (text, table, plot, notice, ...)
    html.py          Page -> report.html    markdown.py  Page -> report.md
    build.py         the command

A later section is one more module in sections/ that returns blocks; neither writer changes.
"""
