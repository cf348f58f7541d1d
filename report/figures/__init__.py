"""Arrays in, Plotly figures out. Colours of text, grid and background belong to the page (templates/plots.js)."""
