"""The plots of a page, which Bokeh draws in the reader's browser from data in the page."""
