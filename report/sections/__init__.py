"""The sections of the page: each module reads records and returns blocks, or a notice of what is missing."""
