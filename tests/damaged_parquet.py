"""Damage to Parquet files that Arrow's reader passes over in silence."""

import io

import pyarrow.parquet as pq


def without_page(data: bytes, column: str) -> bytes:
    """Returns a file the first page of whose column is of a kind that nobody knows.

    Args:
        data: The file.
        column: The path of the column in the schema.
    """
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    (at,) = [one.data_page_offset for one in columns if one.path_in_schema == column]
    # Field 1 of Thrift's compact protocol, an i32: 0, a page of data.
    assert data[at : at + 2] == b"\x15\x00"
    return data[: at + 1] + b"\x01" + data[at + 2 :]
