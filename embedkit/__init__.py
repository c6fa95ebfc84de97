"""Turns a text corpus into an embedding dataset with Apache Beam and Ray."""

import logging

_OF_OTHER_PACKAGES = ("clients/bigquery", "yaml/yaml_ml")


def _is_of_what_we_need(record: logging.LogRecord) -> bool:
    of_others = any(one in record.pathname for one in _OF_OTHER_PACKAGES)
    return not of_others or record.levelno > logging.WARNING


# Importing Beam warns of packages that embedkit does not need, through the root logger, whose
# level is everybody's. Here, as whatever imports Beam in a run, on any machine, imports this first.
logging.getLogger().addFilter(_is_of_what_we_need)
