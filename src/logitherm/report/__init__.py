"""The report of a calibration study: figures from numbers, and one offline HTML file around them."""

from logitherm.report.html import render_report

__all__ = ["render_report"]
