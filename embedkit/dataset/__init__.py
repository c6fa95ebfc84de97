"""From blocks of vectors to a version on disk, and the versions of a root."""
