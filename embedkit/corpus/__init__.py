"""From the bytes of a corpus to blocks of documents."""
