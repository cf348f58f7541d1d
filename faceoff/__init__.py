"""The shared nouns of the stack: configuration, signatures, artifacts, records, statistics, errors.

Every stage may import this package and it imports none of them. Nothing happens at import.
"""
