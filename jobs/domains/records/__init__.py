"""Data that are records: one text, picture or recording each, with what is known about it."""

from jobs.domains.records.preparation import RecordPreparation
from jobs.domains.records.record import Bad, Record
from jobs.domains.records.tables import Row, describe_table, read_table

__all__ = ["Bad", "Record", "RecordPreparation", "Row", "describe_table", "read_table"]
