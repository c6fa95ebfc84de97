"""Turns a text corpus into an embedding dataset with Apache Beam and Ray."""

import logging


def _is_no_bigquery_warning(record: logging.LogRecord) -> bool:
    return "clients/bigquery" not in record.pathname or record.levelno > logging.WARNING


# Importing Beam warns of a package that embedkit does not need, through the root logger, whose
# level is everybody's. Here, as whatever imports Beam in a run, on any machine, imports this first.
logging.getLogger().addFilter(_is_no_bigquery_warning)
