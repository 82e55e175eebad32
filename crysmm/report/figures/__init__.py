"""The figures of a report, which plotly draws in the browser; text, grid and ground take the colors of the page."""
